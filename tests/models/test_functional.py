"""An NNX class becomes pure functions over plain dicts with readable paths."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.functional import Keys, flatten, functional, scan_layers, stack, unflatten
from models.layers import ConvNorm, Linear


class Tower(nnx.Module):
    """A stem with batch norm and stacked layers, as small as can be."""

    def __init__(self, *, depth: int, remat: bool = False, rngs: nnx.Rngs):
        self.parts = nnx.List([ConvNorm(3, 4, 3, rngs=rngs), ConvNorm(4, 8, 1, rngs=rngs)])
        self.blocks = stack(lambda rngs: Linear(8, 8, dtype="float32", rngs=rngs), depth, rngs)
        self.remat = remat

    def __call__(self, x, train_stats=False):
        for part in self.parts:
            x = part(x, train_stats)
        call = lambda layer, x, i: (jnp.tanh(layer(x)) + i, x.mean())  # noqa: E731
        depth = self.blocks.kernel.shape[0]
        return scan_layers(self.blocks, call, x, jnp.arange(depth) / 10, remat=self.remat)


def tower(**kw):
    return functional(lambda rngs: Tower(rngs=rngs, **kw))


X = jax.random.normal(jax.random.key(7), (2, 5, 5, 3))


def test_paths_are_plain_strings_and_stats_are_apart():
    variables = tower(depth=3).init(jax.random.key(0))
    assert set(flatten(variables["params"])) == {
        "blocks/bias", "blocks/kernel",
        "parts/0/kernel", "parts/0/norm/bias", "parts/0/norm/scale",
        "parts/1/kernel", "parts/1/norm/bias", "parts/1/norm/scale",
    }  # fmt: skip
    assert set(flatten(variables["stats"])) == {
        f"parts/{i}/norm/{s}" for i in (0, 1) for s in ("mean", "var")
    }
    assert variables["params"]["blocks"]["kernel"].shape == (3, 8, 8)
    assert all(type(x) is dict for x in (variables, variables["params"]["parts"]))


def test_flatten_and_unflatten_are_inverse():
    tree = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert flatten(tree) == {"a/b": 1, "a/c/d": 2, "e": 3}
    assert unflatten(flatten(tree)) == tree


def test_init_is_a_pure_function_of_the_key_and_jits():
    model = tower(depth=2)
    eager, jitted = model.init(jax.random.key(3)), jax.jit(model.init)(jax.random.key(3))
    for a, b in zip(jax.tree.leaves(eager), jax.tree.leaves(jitted), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    other = model.init(jax.random.key(4))
    assert not np.allclose(eager["params"]["blocks"]["kernel"], other["params"]["blocks"]["kernel"])
    kernel = eager["params"]["blocks"]["kernel"]
    assert not np.allclose(kernel[0], kernel[1]), "stacked layers must start different"


def test_apply_works_on_variables_that_another_model_made():
    variables = tower(depth=2).init(jax.random.key(0))
    here, there = tower(depth=2), tower(depth=2)
    here.init(jax.random.key(1))
    a, b = here.apply(variables, X), jax.jit(there.apply)(variables, X)
    np.testing.assert_allclose(a[0], b[0], atol=1e-5)


def test_stats_are_returned_on_request_and_never_mutated():
    model = tower(depth=2)
    variables = model.init(jax.random.key(0))
    _, same = model.apply(variables, X, return_stats=True)
    _, new = model.apply(variables, X, train_stats=True, return_stats=True)
    flat = {k: flatten(v) for k, v in dict(old=variables["stats"], same=same, new=new).items()}
    for name, old in flat["old"].items():
        np.testing.assert_array_equal(flat["same"][name], old)
        assert not np.array_equal(flat["new"][name], old)


class Scaled(nnx.Module):
    """A number of its own, and a part that has one: what a sweep may vary."""

    def __init__(self, *, rngs, scale=1.0):
        self.scale, self.inner = scale, ConvNorm(3, 4, rngs=rngs, momentum=0.5)

    def __call__(self, x, train_stats=False):
        return self.scale * self.inner(x, train_stats)


def test_numbers_of_a_module_can_be_traced():
    """As if constructed with them, also where statistics come back."""
    model = functional(lambda rngs: Scaled(rngs=rngs, scale=2.0))
    variables = model.init(jax.random.key(0))

    def call(scale):
        varied = model.varied({"scale": scale}).varied({"inner.norm.momentum": 0.9})
        return varied.apply(variables, X, train_stats=True, return_stats=True)

    (two, six), stats = jax.jit(jax.vmap(call, out_axes=(0, None)))(jnp.array([2.0, 6.0]))
    plain, before = model.apply(variables, X, train_stats=True, return_stats=True)
    np.testing.assert_allclose(two, plain, atol=1e-6)
    np.testing.assert_allclose(six, 3 * plain, atol=1e-5)
    moved = lambda s: s["inner"]["norm"]["mean"]  # noqa: E731
    np.testing.assert_allclose(5 * moved(stats), moved(before), atol=1e-6)
    for path, has in (
        ("inner.norm.speed", "BatchNorm has eps, momentum"),
        ("outer.rate", "no num"),
    ):
        with pytest.raises(ValueError, match=has):
            model.varied({path: 1.0}).apply(variables, X)


@pytest.mark.parametrize("depth", [3, 6], ids=["unrolled", "scanned"])
def test_stacked_layers_equal_a_loop_and_remat_changes_nothing(depth):
    variables = tower(depth=depth).init(jax.random.key(0))

    def loop(params, x):  # the same tower without its stack, then the layers one by one
        for i, kernel in enumerate(params["kernel"]):
            x = jnp.tanh(x @ kernel + params["bias"][i]) + i / 10
        return x

    def loss(blocks, call):
        y = call({**variables["params"], "blocks": blocks})
        return (y**2).sum(), y

    def scanned(remat):
        model = tower(depth=depth, remat=remat)
        return lambda params: model.apply({**variables, "params": params}, X)[0]

    stem = functional(Stem)
    stem_variables = {
        "params": {"parts": variables["params"]["parts"]},
        "stats": variables["stats"],
    }
    unrolled = lambda params: loop(params["blocks"], stem.apply(stem_variables, X))  # noqa: E731
    calls = (unrolled, scanned(False), scanned(True))
    run = jax.jit(lambda p: [jax.grad(loss, has_aux=True)(p, call) for call in calls])
    expected, *others = run(variables["params"]["blocks"])
    for got in others:
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


class Stem(nnx.Module):
    def __init__(self, rngs):
        self.parts = nnx.List([ConvNorm(3, 4, 3, rngs=rngs), ConvNorm(4, 8, 1, rngs=rngs)])

    def __call__(self, x):
        return self.parts[1](self.parts[0](x))


def test_misfits_are_sentences():
    model = tower(depth=2)
    variables = model.init(jax.random.key(0))
    with pytest.raises(ValueError, match="has no method 'think'"):
        model.apply(variables, X, method="think")
    params = {k: v for k, v in variables["params"].items() if k != "blocks"}
    with pytest.raises(ValueError, match=r"do not fit this model.*blocks"):
        model.apply({**variables, "params": params}, X)


def test_stacked_layers_draw_the_keys_of_a_loop():
    key = jax.random.key(5)
    layer = lambda rngs: ConvNorm(2, 3, 1, rngs=rngs)  # noqa: E731

    def both():
        a, b, c = Keys(key), Keys(key), nnx.Rngs(key)
        stacked = nnx.state(stack(layer, 3, a))
        loops = [[nnx.state(layer(rngs)) for _ in range(3)] for rngs in (b, c)]
        loops = [jax.tree.map(lambda *x: jnp.stack(x), *states) for states in loops]
        return stacked, loops, (a.params(), b.params(), c.params())

    stacked, loops, after = jax.jit(both)()
    for loop in loops:
        jax.tree.map(np.testing.assert_array_equal, stacked, loop)
    assert len({str(jax.random.key_data(key)) for key in after}) == 1
