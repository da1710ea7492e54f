"""Counting work, reading compiled programs, and compiling the step for TPUs that are not here."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import PartitionSpec
from ml_collections import ConfigDict
from rich.console import Console
from toy_task import Aux, Toy, rows, setting

from configs import captioning_coco_updown
from training.compile import CHIPS, Report, abstract_batch, compile_step, report_for, show
from training.flops import count_flops
from training.hlo import check_tpu_ready, collectives, trip_counts
from training.sharding import make_mesh

X, W = jnp.ones((4, 8)), jnp.ones((8, 8))


def flops(fn, *args):
    return count_flops(jax.make_jaxpr(fn)(*args))


def test_dots_and_batched_dots():
    assert flops(lambda x, w: x @ w, X, W) == 2 * 4 * 8 * 8
    assert flops(
        lambda a, b: jnp.einsum("bik,bkj->bij", a, b), jnp.ones((3, 4, 5)), jnp.ones((3, 5, 6))
    ) == (2 * 3 * 4 * 5 * 6)


def test_scans_count_as_often_as_they_run():
    def unrolled(x, w):
        for _ in range(5):
            x = jnp.tanh(x @ w)
        return x.sum()

    def scanned(x, w):
        return lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, length=5)[0].sum()

    assert flops(unrolled, X, W) == flops(scanned, X, W) == 5 * 2 * 4 * 8 * 8
    twice = [flops(jax.grad(f, argnums=(0, 1)), X, W) for f in (unrolled, scanned)]
    assert twice[0] == twice[1] == 3 * flops(unrolled, X, W)
    nested = lambda x, w: lax.scan(lambda c, _: (c + scanned(x, w), 0), 0.0, None, length=3)  # noqa: E731
    assert flops(nested, X, W) == 3 * flops(scanned, X, W)


def test_branches_remat_and_jit_are_looked_into():
    f = lambda x, w: lax.cond(x.sum() > 0, lambda: x @ w @ w, lambda: x @ w)  # noqa: E731
    assert flops(f, X, W) == 2 * 2 * 4 * 8 * 8
    assert flops(jax.jit(jax.checkpoint(lambda x, w: x @ w)), X, W) == 2 * 4 * 8 * 8


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (1, 4)])
def test_convolutions_and_their_gradients(stride, groups):
    """Forward by the formula; a gradient with respect to each argument costs the same again."""
    x, k = jnp.ones((2, 8, 8, 4)), jnp.ones((3, 3, 4 // groups, 8))

    def conv(x, k):
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            x, k, (stride, stride), "SAME", dimension_numbers=numbers, feature_group_count=groups
        ).sum()

    forward = 2 * 2 * (8 // stride) ** 2 * 8 * 9 * (4 // groups)
    assert flops(conv, x, k) == forward
    assert flops(jax.grad(conv, argnums=(0, 1)), x, k) == pytest.approx(3 * forward, rel=0.3)


def test_accumulation_does_not_change_the_work():
    def work(**kw):
        _, _, mesh, step, state = setting(**kw)
        return count_flops(step.trace(*abstract(mesh, state)).jaxpr)

    assert work() == work(accum_steps=4) == work(passes=3) / 3 > 0


def abstract(mesh, state, size=16):
    struct = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)  # noqa: E731
    return jax.tree.map(struct, state), abstract_batch(rows(0, 0, size), mesh)


HLO = """
%body.1 (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %all-reduce.3 = (f32[4]{0:T(128)}, /*index=1*/bf16[2,3]{1,0}) all-reduce(%a, %b), to_apply=%add
}
%cond.1 (p: (s32[], f32[4])) -> pred[] {
  %constant.2 = s32[]{:T(128)} constant(6)
  ROOT %lt = pred[] compare(%i, %constant.2), direction=LT
}
%body.2 (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %while.1 = (s32[], f32[4]) while(%t), condition=%cond.1, body=%body.1
}
ENTRY %main (a: f32[8]) -> f32[8] {
  %ag = (f32[2]{0}, f32[16]{0}) all-gather-start(%a), dimensions={0}
  %done = f32[16]{0} all-gather-done(%ag)
  %while.2 = (s32[], f32[4]) while(%t), condition=%c, body=%body.2, \
backend_config={"known_trip_count":{"n":"2"}}
}
"""


def test_collectives_are_counted_with_their_loops():
    assert trip_counts(HLO) == {"body.1": 12, "body.2": 2}
    assert collectives(HLO) == {"all-gather": (1, 64), "all-reduce": (12, 12 * (16 + 12))}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('  %s = token[] send(%x), is_host_transfer=true, op_name="loss/pure_callback"',
         "calls back to the host in loss/pure_callback"),
        ('  %c = f32[] custom-call(), custom_call_target="xla_ffi_python_cpu_callback"', "host"),
        ("  %i = (f32[], token[]) infeed(%t)", "calls back to the host"),
        ("  %d = f32[<=16] parameter(0)", "dynamic shape"),
    ],
)  # fmt: skip
def test_steps_that_no_pod_could_run(line, said):
    check_tpu_ready(HLO)
    with pytest.raises(ValueError, match=said):
        check_tpu_ready(HLO + line)


class Talkative(Toy):
    def loss(self, params, state, batch, key):
        loss, aux = super().loss(params, state, batch, key)
        jax.debug.callback(lambda x: None, loss)
        return loss, aux


def test_a_callback_in_a_loss_is_found():
    _, _, mesh, step, state = setting(Talkative())
    with pytest.raises(ValueError, match="the train step calls back to the host"):
        compile_step(step, *abstract(mesh, state), mesh)


def test_report_of_a_step_on_this_machine(capsys):
    _, _, mesh, step, state = setting(devices=4)
    report = compile_step(step, *abstract(mesh, state), mesh)
    assert report.devices == 4 and report.frozen == 0
    assert report.trained == 16 * 8 + 16 + 16 * 4 + 4 and report.inputs["x"] == "float32 [16, 8]"
    assert report.collectives["all-reduce"][1] >= 4 * report.trained
    assert report.flops == 16 * (2 * 8 * 16 * 2 + 2 * 16 * 4 * 3)  # no gradient for the input
    show(report, "v5e", Console(width=100))
    text = capsys.readouterr().out  # it must say which step it is about
    assert "212 trained, 0 frozen" in text and "x float32 [16, 8]" in text


def test_a_step_on_features_computed_elsewhere(monkeypatch):
    """Traced; compiling it takes long and is tested with images."""
    c = captioning_coco_updown.get_config("smoke").unlock()
    c.model.encoder = ConfigDict(dict(type="precomputed", width=24))
    c.data.features, c.task.frozen = "regions.npz", ()
    seen = {}
    trace = lambda step, state, batch, mesh: seen.update(batch) or step.trace(state, batch)  # noqa: E731
    monkeypatch.setattr("training.compile.compile_step", trace)
    traced = report_for(c, jax.devices()[:1], vocab_size=20, regions=5)
    assert seen["features"].shape == (c.data.batch_size, 5, 24) and "image" not in seen
    assert count_flops(traced.jaxpr) > 0


class Deep(Toy):
    """Scanned layers, as the models have them: [L, 8, W] and [L, W, 8]."""

    def init(self, key):
        shapes = {"up": (3, 8, self.width), "down": (3, self.width, 8)}
        return {k: jax.random.normal(key, shape) for k, shape in shapes.items()}, {}

    def loss(self, params, state, batch, key):
        layer = lambda x, w: (x + jnp.tanh(x @ w["up"]) @ w["down"], None)  # noqa: E731
        x, _ = lax.scan(layer, batch["x"], params)
        return (x**2).sum(), Aux(batch["x"].shape[0], {})


def test_fsdp_gathers_parameters_and_not_activations():
    mesh = make_mesh(fsdp=8)
    _, _, _, step, state = setting(Deep(64), mesh=mesh)
    assert state.params["up"].sharding.spec == PartitionSpec(None, None, "fsdp")
    found = compile_step(step, *abstract(mesh, state, 4096), mesh).collectives
    parameters = 4 * 2 * 3 * 8 * 64
    assert set(found) == {"all-gather", "all-reduce"}
    assert found["all-gather"][1] <= parameters and found["all-reduce"][1] <= parameters + 100


def test_roofline_is_the_larger_bound():
    report = Report(4, {}, 1, 0, 10**9, 0, 0, 10**9, 4 * 197 * 10**12, {})
    bounds = report.seconds(CHIPS["v5e"])
    assert bounds["compute"] == pytest.approx(1.0) and bounds["memory"] == pytest.approx(1 / 820)
    assert report.memory == 0


TPU = """
import sys
sys.path[:0] = {paths}
import jax
jax.config.update("jax_platforms", "cpu")
from toy_task import Toy, rows
from training.compile import abstract_batch, compile_step, topology_devices
from training.optimizer import make_optimizer
from training.sharding import abstract_state, make_mesh
from training.step import make_train_step
for axes in ({{}}, {{"fsdp": 2, "tensor": 2}}):
    mesh = make_mesh(**axes, devices=topology_devices("v5e:2x4"))
    tx, rate = make_optimizer(total_steps=9)
    step = make_train_step(Toy(256), tx, seed=0, mesh=mesh, accum_steps=2, schedule=rate)
    rules = ((r"body/kernel", (None, "tensor")),)
    state = abstract_state(Toy(256), tx, mesh=mesh, rules=rules)
    print(compile_step(step, state, abstract_batch(rows(0, 0, 512), mesh), mesh).collectives)
"""


@pytest.mark.skipif(
    not importlib.util.find_spec("libtpu"), reason="libtpu (extra: tpu) not installed"
)
def test_compiles_for_a_tpu_topology():
    """Pure data parallelism costs one all-reduce, of the gradient and the metrics together."""
    here = pathlib.Path(__file__).parent
    code = TPU.format(paths=[str(here), str(here.parent.parent)])
    env = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    plain, sharded = map(eval, run.stdout.splitlines()[-2:])
    parameters = 8 * 256 + 256 + 256 * 4 + 4
    assert plain.keys() == {"all-reduce"} and plain["all-reduce"][0] == 1
    assert 4 * parameters <= plain["all-reduce"][1] < 4 * parameters + 100
    assert "all-reduce" in sharded
