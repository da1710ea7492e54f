"""Config sections -> objects: every way to mistype one ends in a sentence that helps."""

import sys

import pytest

from training.build import ConfigError, call, construct, maker
from training.optimizer import make_optimizer

SOURCE = """
import functools
from typing import Any, Literal

class SoftNet:
    def __init__(self, *, width: int, rate: float = 0.1, sizes: tuple[int, ...] = (), mode="a",
                 kind: Literal["x", "y"] = "x", inner: functools.partial | None = None,
                 name: str | None = None, rngs: Any = None):
        vars(self).update({k: v for k, v in locals().items() if k != "self"})
"""
DERIVED = """
from toyrooms.soft_net import SoftNet

class DeepNet(SoftNet):
    def __init__(self, *, depth: int = 2, **options):
        super().__init__(**options)
        self.depth = depth
"""


@pytest.fixture
def rooms(tmp_path, monkeypatch):
    (tmp_path / "toyrooms").mkdir()
    (tmp_path / "toyrooms" / "__init__.py").write_text("")
    (tmp_path / "toyrooms" / "soft_net.py").write_text(SOURCE)
    (tmp_path / "toyrooms" / "hollow.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield "toyrooms"
    for name in [m for m in sys.modules if m.startswith("toyrooms")]:
        del sys.modules[name]


def test_constructs_with_extras_nesting_and_lenient_types(rooms):
    inner = dict(type="soft_net", width=2)
    section = dict(type="soft_net", width=3, rate=1, sizes=[4, 5], inner=inner)
    net = construct(rooms, section, rngs="r")
    assert (net.width, net.rate, net.sizes, net.rngs) == (3, 1.0, (4, 5), "r")
    assert net.inner(rngs="s").width == 2 and section["inner"] is inner
    made = maker(rooms, dict(type="soft_net"))
    assert made(width=7).width == 7


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"widht": 3}, r'config.model: unknown key "widht"; did you mean "width"\? '
                       r"\(toyrooms/soft_net.py SoftNet takes width, rate"),
        ({"zzz": 3}, r'unknown key "zzz" \(toyrooms'),
        ({}, r"config.model: missing width \(required by toyrooms/soft_net.py SoftNet"),
        ({"width": "3"}, r"config.model.width: expected int, got '3' \(str\)"),
        ({"width": 3.5}, r"config.model.width: expected int, got 3.5 \(float\)"),
        ({"width": True}, r"config.model.width: expected int, got True \(bool\)"),
        ({"width": 1, "rate": "a"}, r"config.model.rate: expected float"),
        ({"width": 1, "sizes": 3}, r"config.model.sizes: expected tuple"),
        ({"width": 1, "mode": 3}, r"config.model.mode: expected str"),
        ({"width": 1, "kind": "z"}, r"config.model.kind: expected .*'x', 'y'"),
        ({"width": 1, "name": 3}, r"config.model.name: expected str \| None"),
        ({"width": 1, "inner": 3}, r"config.model.inner: expected "),
        ({"width": 1, "inner": {"type": "soft_net", "wdth": 1}},
         r'config.model.inner: unknown key "wdth"; did you mean "width"'),
        ({"type": "soft_nte"}, r'unknown type "soft_nte"; did you mean "soft_net"\? '
                               r"\(toyrooms/ has hollow, soft_net"),
        ({"type": "hollow"}, r'toyrooms/hollow.py has no class for type "hollow"'),
        ({"type": ""}, r"config.model: needs `type`, one of hollow, soft_net"),
    ],
)  # fmt: skip
def test_errors(rooms, section, said):
    with pytest.raises(ConfigError, match=said):
        construct(rooms, {"type": "soft_net"} | section, where="config.model")


def test_keywords_handed_on_are_checked_against_the_class_that_takes_them(rooms, tmp_path):
    (tmp_path / "toyrooms" / "deep_net.py").write_text(DERIVED)
    net = construct(rooms, dict(type="deep_net", depth=3, width=2, sizes=[1]))
    assert (net.depth, net.width, net.sizes) == (3, 2, (1,))
    for section, said in (
        ({"widht": 3}, r'unknown key "widht"; did you mean "width".*DeepNet takes .*width.*depth'),
        ({"width": "3"}, "width: expected int"),
        ({"depth": 1}, "missing width"),
    ):
        with pytest.raises(ConfigError, match=said):
            construct(rooms, {"type": "deep_net", **section})


def test_functions_are_checked_like_classes():
    tx, _ = call(make_optimizer, {"lr": 1}, where="config.optim", total_steps=3)
    assert hasattr(tx, "update")
    with pytest.raises(ConfigError, match=r'config.optim: unknown key "wramup".*"warmup"'):
        call(make_optimizer, {"wramup": 1}, where="config.optim", total_steps=3)
    with pytest.raises(ConfigError, match=r"config.optim: missing total_steps"):
        call(make_optimizer, {}, where="config.optim")
