"""Meshes, rules and batches: where arrays land, and sentences with numbers where they cannot."""

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from rich.console import Console
from toy_task import Toy, rows, setting

from training.optimizer import make_optimizer
from training.sharding import (
    abstract_state,
    check_batch_size,
    gathered,
    init_state,
    make_mesh,
    put_batch,
    spec_for,
)
from training.state import flatten
from training.table import mib_per_device, parameter_table

MESH = dict(data=2, fsdp=2, tensor=2)


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ({}, (8, 1, 1)),
        ({"fsdp": 4}, (2, 4, 1)),
        ({"data": 1, "fsdp": -1}, (1, 8, 1)),
        (MESH, (2, 2, 2)),
    ],
)
def test_mesh_shapes(axes, shape):
    mesh = make_mesh(**axes)
    assert tuple(mesh.shape.values()) == shape and mesh.axis_names == ("data", "fsdp", "tensor")


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ({"fsdp": 3}, "mesh.fsdp=3.*needs a multiple of 3 devices, but there are 8"),
        ({"data": 4, "fsdp": 4}, "needs 16 devices, but there are 8"),
        ({"data": 4}, "needs 4 devices, but there are 8"),
        ({"fsdp": -1}, "at most one is -1"),
        ({"tensor": 0}, "each axis is 1 or more"),
    ],
)
def test_impossible_meshes(axes, said):
    with pytest.raises(ValueError, match=said):
        make_mesh(**axes)


RULES = (
    (r"query/kernel$", (None, "tensor")),
    (r"kernel$", (("fsdp", "tensor"), None)),
    (r"wrong$", ("model",)),
)


@pytest.mark.parametrize(
    ("path", "shape", "spec"),
    [
        ("a/query/kernel", (3, 8), P(None, "tensor")),  # the first match wins
        ("a/out/kernel", (8, 3), P(("fsdp", "tensor"), None)),
        ("a/embed/table", (6, 10), P(None, "fsdp")),  # default: the largest that divides
        ("a/embed/table", (6, 9), P("fsdp", None)),
        ("a/embed/table", (3, 9), P()),
        ("a/bias", (8,), P()),
    ],
)
def test_rules_and_the_default(path, shape, spec):
    assert spec_for(path, shape, RULES, make_mesh(**MESH)) == spec


@pytest.mark.parametrize(
    ("path", "shape", "said"),
    [
        (
            "up/query/kernel",
            (32, 131),
            r"`up/query/kernel` \[32, 131\]: dimension 1 is not divisible by tensor=2; "
            r"nearest 130, 132",
        ),
        ("kernel", (6, 4), r"not divisible by fsdp=2 x tensor=2; nearest 4, 8"),
        ("kernel", (8,), r"names 2 dimensions; write one axis or None for each"),
        ("wrong", (8,), r"names axis 'model'; known: data, fsdp, tensor"),
    ],
)
def test_rule_errors_hold_the_numbers(path, shape, said):
    with pytest.raises(ValueError, match=said):
        spec_for(path, shape, RULES, make_mesh(**MESH))


def test_moments_and_ema_follow_their_parameter():
    tx, _ = make_optimizer(total_steps=9)
    rules = ((r"^body/kernel$", (None, "tensor")),)
    state = abstract_state(Toy(), tx, mesh=make_mesh(**MESH), rules=rules, ema=0.9)
    specs = {path: x.sharding.spec for path, x in flatten(state).items()}
    found = {path for path, spec in specs.items() if spec == P(None, "tensor")}
    assert found == {
        *("params/body/kernel", "ema/body/kernel"),
        *("opt_state/0/mu/body/kernel", "opt_state/0/nu/body/kernel"),
    }
    assert specs["params/head/kernel"] == P("fsdp", None) and specs["step"] == P()


def test_frozen_parameters_obey_the_rules_too():
    tx, _ = make_optimizer(total_steps=9)
    rules = ((r"^body/kernel$", (None, "tensor")),)
    state = abstract_state(Toy(frozen=True), tx, mesh=make_mesh(**MESH), rules=rules)
    assert state.frozen["body"]["kernel"].sharding.spec == P(None, "tensor")


def test_factored_moments_do_not_need_the_rule_to_fit():
    tx, _ = make_optimizer(type="adafactor", total_steps=9)
    rules = ((r"^body/kernel$", (None, "tensor")),)
    state = init_state(Toy(width=128), tx, seed=0, mesh=make_mesh(**MESH), rules=rules)
    assert state.params["body"]["kernel"].sharding.spec == P(None, "tensor")


def test_gathered_arrays_are_split_over_tensor_only():
    mesh = make_mesh(**MESH)
    specs = {"a": P(None, ("fsdp", "tensor")), "b": P("fsdp", None), "c": P("tensor", "fsdp")}
    x = np.arange(64.0).reshape(8, 8)
    tree = {k: jax.device_put(x, NamedSharding(mesh, spec)) for k, spec in specs.items()}
    found = gathered(tree, mesh)
    assert {k: v.sharding.spec for k, v in found.items()} == {
        "a": P(None, "tensor"), "b": P(None, None), "c": P("tensor", None),
    }  # fmt: skip
    assert all((np.asarray(v) == x).all() for v in found.values())
    assert gathered(tree, make_mesh()) is tree


def test_init_is_the_same_on_any_mesh_and_equals_its_abstract_form():
    tx, _ = make_optimizer(total_steps=9)
    one = init_state(Toy(), tx, seed=0, mesh=make_mesh(devices=jax.devices()[:1]))
    many = init_state(Toy(), tx, seed=0, mesh=make_mesh(**MESH))
    shapes = abstract_state(Toy(), tx, mesh=make_mesh(**MESH))
    for path, leaf in flatten(many).items():
        np.testing.assert_array_equal(leaf, flatten(one)[path])
        struct = flatten(shapes)[path]
        assert (leaf.shape, leaf.dtype, leaf.sharding) == (
            *(struct.shape, struct.dtype, struct.sharding),
        )


def test_pretrained_leaves_replace_the_random_ones():
    tx, _ = make_optimizer(total_steps=9)
    kernel = np.full((8, 16), 2.0, np.float16)
    put = dict(seed=0, mesh=make_mesh(), ema=0.9)
    given = {"params": {"body": {"kernel": kernel}}}
    state = init_state(Toy(frozen=True), tx, pretrained=given, **put)
    assert state.frozen["body"]["kernel"].dtype == np.float32
    np.testing.assert_array_equal(state.frozen["body"]["kernel"], 2.0)
    with pytest.raises(
        ValueError, match=r"`params/body/kernel` has shape \[2, 3\].*needs \[8, 16\]"
    ):
        init_state(Toy(), tx, pretrained={"params/body/kernel": kernel[:2, :3]}, **put)
    with pytest.raises(ValueError, match=r"1 names fit no parameter.*`params/body/weight`"):
        init_state(Toy(), tx, pretrained={"params/body/weight": kernel}, **put)


def test_batches_are_sharded_by_rows():
    mesh = make_mesh(fsdp=2)
    batch = rows(0, 0, 16)
    placed = put_batch(batch, mesh)
    assert {s.data.shape for s in placed["x"].addressable_shards} == {(2, 8)}
    np.testing.assert_array_equal(placed["index"], batch["index"])


@pytest.mark.parametrize(
    "how", [lambda m: check_batch_size(30, m), lambda m: put_batch(rows(0, 0, 30), m)]
)
def test_batch_must_divide_over_the_devices(how):
    with pytest.raises(
        ValueError, match=r"data.batch_size=30 is not divisible by 8 .* nearest 24, 32"
    ):
        how(make_mesh(fsdp=2))


def test_parameter_table(capsys):
    _, _, _, _, state = setting(Toy(frozen=True), mesh=make_mesh(**MESH), optim={"type": "adamw"})
    console = Console(width=120)
    console.print(parameter_table(state))
    text = capsys.readouterr().out
    line = lambda start: next(x for x in text.splitlines() if x.startswith(start)).split()  # noqa: E731
    assert line("body/kernel (frozen)")[2:6] == ["8", "×", "16", "float32"]
    assert line("head/kernel")[-3:] == ["fsdp,", "-", "0.00"]
    assert line("total")[1] == str(len(jax.tree.leaves(state)))
    assert mib_per_device(state.params["head"]["kernel"]) == 16 * 4 * 4 / 2 / 2**20
    deep = state.replace(params={"net": {"top": state.params}})
    console.print(parameter_table(deep, rows=2))
    assert "2 arrays, 68" in capsys.readouterr().out
