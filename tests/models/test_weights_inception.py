"""Inception-v3 under torchvision's names: the logits equal those of a PyTorch module."""

from functools import partial

from models.inception_v3 import InceptionV3
from tests.models.torch_parity import HALF, F, check, nn, randomise, torch


class BasicConv(nn.Module):
    def __init__(self, inputs, outputs, size, stride=1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


ROW, COLUMN = (1, 7), (7, 1)  # kernels, each with padding to keep the size
SAME = {1: 0, 3: 1, 5: 2, ROW: (0, 3), COLUMN: (3, 0), (1, 3): (0, 1), (3, 1): (1, 0)}


class InceptionBlock(nn.Module):
    """chains: of (name, outputs, kernel); "half" strides by 2; a name ending in b is beside a."""

    def __init__(self, inputs, *chains, pool=0, half=False):
        super().__init__()
        self.chains, self.pool, self.half = chains, pool, half
        for chain in chains:
            wide = inputs
            for name, outputs, size, *rest in chain:
                padding = 0 if rest else SAME[size]
                setattr(self, name, BasicConv(wide, outputs, size, 2 if rest else 1, padding))
                wide = wide if name[-1] == "a" else outputs
        if pool:
            self.branch_pool = BasicConv(inputs, pool, 1)

    def forward(self, x):
        found = []
        for chain in self.chains:
            y, side = x, []
            for name, *_ in chain:
                if name[-1] in "ab":
                    side.append(getattr(self, name)(y))
                else:
                    y = getattr(self, name)(y)
            found += side or [y]
        if self.pool:
            found.append(self.branch_pool(F.avg_pool2d(x, 3, 1, 1)))
        return torch.cat([*found, F.max_pool2d(x, 3, 2)] if self.half else found, 1)


def block_a(inputs, pool):
    double = [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)]
    five = [("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)]
    return InceptionBlock(inputs, [("branch1x1", 64, 1)], five, double, pool=pool)


def block_c(w):
    seven = [("branch7x7_1", w, 1), ("branch7x7_2", w, ROW), ("branch7x7_3", 192, COLUMN)]
    sizes = ((w, 1), (w, COLUMN), (w, ROW), (w, COLUMN), (192, ROW))
    double = [(f"branch7x7dbl_{i}", *size) for i, size in enumerate(sizes, 1)]
    return InceptionBlock(768, [("branch1x1", 192, 1)], seven, double, pool=192)


def block_e(inputs):
    three = [("branch3x3_1", 384, 1), ("branch3x3_2a", 384, (1, 3)), ("branch3x3_2b", 384, (3, 1))]
    double = [("branch3x3dbl_1", 448, 1), ("branch3x3dbl_2", 384, 3)]
    double += [("branch3x3dbl_3a", 384, (1, 3)), ("branch3x3dbl_3b", 384, (3, 1))]
    return InceptionBlock(inputs, [("branch1x1", 320, 1)], three, double, pool=192)


class TorchInception(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        stem = dict(Conv2d_1a_3x3=(3, 32, 3, 2), Conv2d_2a_3x3=(32, 32, 3))
        stem |= dict(Conv2d_2b_3x3=(32, 64, 3, 1, 1), Conv2d_3b_1x1=(64, 80, 1))
        stem |= dict(Conv2d_4a_3x3=(80, 192, 3))
        for name, sizes in stem.items():
            setattr(self, name, BasicConv(*sizes))
        self.Mixed_5b, self.Mixed_5c = block_a(192, 32), block_a(256, 64)
        self.Mixed_5d = block_a(288, 64)
        double = [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3)]
        double += [("branch3x3dbl_3", 96, 3, "half")]
        self.Mixed_6a = InceptionBlock(288, [("branch3x3", 384, 3, "half")], double, half=True)
        self.Mixed_6b, self.Mixed_6c = block_c(128), block_c(160)
        self.Mixed_6d, self.Mixed_6e = block_c(160), block_c(192)
        seven = [("branch7x7x3_1", 192, 1), ("branch7x7x3_2", 192, ROW)]
        seven += [("branch7x7x3_3", 192, COLUMN), ("branch7x7x3_4", 192, 3, "half")]
        three = [("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3, "half")]
        self.Mixed_7a = InceptionBlock(768, three, seven, half=True)
        self.Mixed_7b, self.Mixed_7c = block_e(1280), block_e(2048)
        self.AuxLogits = nn.ModuleDict({"conv0": BasicConv(768, 8, 1), "fc": nn.Linear(8, classes)})
        self.fc = nn.Linear(2048, classes)

    def forward(self, x):
        for name, layer in self.named_children():
            if name in ("Conv2d_3b_1x1", "Mixed_5b"):
                x = F.max_pool2d(x, 3, 2)
            x = x if name in ("AuxLogits", "fc") else layer(x)
        return self.fc(x.mean((2, 3)))


def test_inception(tmp_path):
    module = randomise(TorchInception())
    encoder = partial(InceptionV3, num_classes=10)
    loaded = check(module, encoder, tmp_path, size=107, preprocessing=HALF)
    assert "AuxLogits (7)" in loaded.says
