"""Logits of EfficientNet-Lite equal a PyTorch module's, under the names of both publishers."""

import re
from functools import partial

import numpy as np
import pytest

from models import pretrained
from models.efficientnet_lite import EfficientNetLite, table
from models.functional import flatten
from tests.models.torch_parity import F, check, nn, randomise, torch


class Same(nn.Conv2d):
    """A convolution that pads as TensorFlow does: the odd pixel goes below and right."""

    def __init__(self, inputs, outputs, size, stride=1, groups=1):
        super().__init__(inputs, outputs, size, stride, groups=groups, bias=False)

    def forward(self, x):
        pads = []
        for length in (x.shape[3], x.shape[2]):
            total = (-(-length // self.stride[0]) - 1) * self.stride[0] + self.kernel_size[0]
            total = max(total - length, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads))


def norm(width):
    return nn.BatchNorm2d(width, eps=1e-3)


class Block(nn.Module):
    def __init__(self, inputs, outputs, expansion, stride, size):
        super().__init__()
        wide = inputs * expansion
        if expansion > 1:
            self._expand_conv, self._bn0 = Same(inputs, wide, 1), norm(wide)
        self._depthwise_conv, self._bn1 = Same(wide, wide, size, stride, wide), norm(wide)
        self._project_conv, self._bn2 = Same(wide, outputs, 1), norm(outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        y = F.relu6(self._bn0(self._expand_conv(x))) if hasattr(self, "_bn0") else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.residual else y


class TorchLite(nn.Module):
    def __init__(self, lite, classes=10):
        super().__init__()
        self._conv_stem, self._bn0 = Same(3, 32, 3, 2), norm(32)
        blocks, inputs = [], 32
        for expansion, outputs, repeats, stride, size in table(lite):
            for i in range(repeats):
                blocks.append(Block(inputs, outputs, expansion, 1 if i else stride, size))
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = Same(inputs, 1280, 1), norm(1280)
        self._fc = nn.Linear(1280, classes)

    def forward(self, x):
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return self._fc(F.relu6(self._bn1(self._conv_head(x))).mean((2, 3)))


def timm_names(state, lite):
    """The same state dict as timm writes it."""
    places = [(i, j) for i, row in enumerate(table(lite)) for j in range(row[2])]
    parts = dict(_expand_conv="conv_pw", _bn0="bn1", _depthwise_conv="conv_dw", _bn1="bn2")
    parts |= dict(_project_conv="conv_pwl", _bn2="bn3")
    first = dict(_depthwise_conv="conv_dw", _bn1="bn1", _project_conv="conv_pw", _bn2="bn2")
    ends = dict(_conv_stem="conv_stem", _bn0="bn1", _conv_head="conv_head", _bn1="bn2")
    ends["_fc"] = "classifier"
    named = {}
    for name, value in state.items():
        if found := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name):
            i, j = places[int(found[1])]
            named[f"blocks.{i}.{j}.{(parts if i else first)[found[2]]}.{found[3]}"] = value
        else:
            module, leaf = name.split(".")
            named[f"{ends[module]}.{leaf}"] = value
    return named


def test_logits_equal_and_timm_names_hold_the_same_weights(tmp_path):
    module = randomise(TorchLite(0))
    encoder = partial(EfficientNetLite, num_classes=10)
    pixels = ((127.0,) * 3, (128.0,) * 3)
    loaded = check(module, encoder, tmp_path, size=70, preprocessing=pixels)
    assert "a PyTorch EfficientNet-Lite0, made for 224-pixel images" in loaded.says
    torch.save(timm_names(module.state_dict(), 0), tmp_path / "timm.pth")
    config = '{"pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "crop_pct": 0.875}}'
    (tmp_path / "config.json").write_text(config)
    timm = pretrained.load(tmp_path / "timm.pth", encoder)
    assert timm.settings["mean"] == (127.5,) * 3 and timm.crop == 0.875
    same = flatten(timm.variables)
    for path, value in flatten(loaded.variables).items():
        np.testing.assert_array_equal(same[path], value, err_msg=path)


def test_another_size_and_another_family_are_named(tmp_path):
    state = TorchLite(2).state_dict()
    torch.save(state, tmp_path / "w.pth")
    words = r"is a PyTorch EfficientNet-Lite2: set model.encoder.lite=2 \(now 0\)"
    with pytest.raises(ValueError, match=words):
        pretrained.load(tmp_path / "w.pth", partial(EfficientNetLite))
    state["_blocks.1._se_reduce.weight"] = torch.zeros(4, 96, 1, 1)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="with squeeze-and-excitation"):
        pretrained.load(tmp_path / "w.pth", partial(EfficientNetLite))
