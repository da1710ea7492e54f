"""Logits equal those of PyTorch modules with torchvision's names.

ResNet, VGG, SqueezeNet and MobileNetV2; Inception-v3 has a file of its own.
"""

from functools import partial

import pytest

from models.mobilenet_v2 import STAGES, MobileNetV2
from models.resnet import ResNet
from models.squeezenet import SQUEEZE, SqueezeNet
from models.vgg import VGG
from tests.models.torch_parity import F, check, nn, randomise, torch


class Residual(nn.Module):
    def __init__(self, inputs, width, stride, deep):
        super().__init__()
        outputs = 4 * width if deep else width
        sizes = [(inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1)]
        sizes = sizes if deep else [(inputs, width, 3, stride), (width, width, 3, 1)]
        for i, (a, b, size, step) in enumerate(sizes, 1):
            setattr(self, f"conv{i}", nn.Conv2d(a, b, size, step, size // 2, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(b))
        self.count, self.downsample = len(sizes), nn.Identity()
        if stride > 1 or inputs != outputs:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = F.relu(y) if i < self.count else y
        return F.relu(y + self.downsample(x))


class TorchResNet(nn.Module):
    def __init__(self, repeats, deep, width=8, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1, inputs = nn.BatchNorm2d(width), width
        for stage, count in enumerate(repeats):
            blocks = []
            for i in range(count):
                stride = 2 if stage and not i else 1
                blocks.append(Residual(inputs, width * 2**stage, stride, deep))
                inputs = width * 2**stage * (4 if deep else 1)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(x.mean((2, 3)))


@pytest.mark.parametrize(
    "depth,deep,repeats", [(18, False, (2, 2, 2, 2)), (101, True, (3, 4, 23, 3))]
)
def test_resnet(tmp_path, depth, deep, repeats):
    module = randomise(TorchResNet(repeats, deep), scale=0.6)
    encoder = partial(ResNet, depth=depth, base_width=8, num_classes=10)
    loaded = check(module, encoder, tmp_path, size=45)
    assert "num_batches_tracked (" in loaded.says


class TorchVGG(nn.Module):
    def __init__(self, norm, width=4, classes=10):
        super().__init__()
        layers, inputs = [], 3
        for stage, count in enumerate((2, 2, 3, 3, 3)):
            for _ in range(count):
                outputs = width * min(2**stage, 8)
                layers.append(nn.Conv2d(inputs, outputs, 3, padding=1))
                layers += [nn.BatchNorm2d(outputs), nn.ReLU()] if norm else [nn.ReLU()]
                inputs = outputs
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        drop = nn.Dropout
        self.classifier = nn.Sequential(
            nn.Linear(49 * inputs, 4096), nn.ReLU(), drop(), nn.Linear(4096, 4096), nn.ReLU(),
            drop(), nn.Linear(4096, classes),
        )  # fmt: skip

    def forward(self, x):
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), 7).flatten(1))


@pytest.mark.parametrize("norm", [False, True])
def test_vgg(tmp_path, norm):
    encoder = partial(VGG, depth=16, norm=norm, base_width=4, num_classes=10)
    assert check(randomise(TorchVGG(norm)), encoder, tmp_path, size=96).variables["params"]


class TorchFire(nn.Module):
    def __init__(self, inputs, squeeze):
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, 4 * squeeze, 1)
        self.expand3x3 = nn.Conv2d(squeeze, 4 * squeeze, 3, padding=1)

    def forward(self, x):
        x = F.relu(self.squeeze(x))
        return F.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], 1))


class TorchSqueezeNet(nn.Module):
    def __init__(self, version, classes=10):
        super().__init__()
        width, size, pools = {"1.0": (96, 7, (0, 3, 7)), "1.1": (64, 3, (0, 2, 4))}[version]
        layers, inputs = [nn.Conv2d(3, width, size, 2), nn.ReLU()], width
        for i, squeeze in enumerate(SQUEEZE):
            layers += [nn.MaxPool2d(3, 2, ceil_mode=True)] if i in pools else []
            layers.append(TorchFire(inputs, squeeze))
            inputs = 8 * squeeze
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(512, classes, 1), nn.ReLU())

    def forward(self, x):
        return self.classifier(self.features(x)).mean((2, 3))


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_squeezenet(tmp_path, version):
    module = randomise(TorchSqueezeNet(version))
    encoder = partial(SqueezeNet, version=version, num_classes=10)
    assert check(module, encoder, tmp_path, size=70).variables["params"]


def conv_bn(inputs, outputs, size, stride=1, groups=1):
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class Inverted(nn.Module):
    def __init__(self, inputs, outputs, expansion, stride):
        super().__init__()
        wide = inputs * expansion
        parts = [nn.Sequential(*conv_bn(inputs, wide, 1), nn.ReLU6())] if expansion > 1 else []
        parts.append(nn.Sequential(*conv_bn(wide, wide, 3, stride, wide), nn.ReLU6()))
        self.conv = nn.Sequential(*parts, *conv_bn(wide, outputs, 1))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


class TorchMobileNet(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        layers, inputs = [nn.Sequential(*conv_bn(3, 32, 3, 2), nn.ReLU6())], 32
        for expansion, outputs, repeats, stride in STAGES:
            for i in range(repeats):
                layers.append(Inverted(inputs, outputs, expansion, 1 if i else stride))
                inputs = outputs
        layers.append(nn.Sequential(*conv_bn(inputs, 1280, 1), nn.ReLU6()))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(), nn.Linear(1280, classes))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


def test_mobilenet(tmp_path):
    encoder = partial(MobileNetV2, num_classes=10)
    assert check(randomise(TorchMobileNet()), encoder, tmp_path, size=64).variables["stats"]
