"""LoRA's arithmetic by hand, its first output, and what learns when only the adapters do."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from models.functional import flatten, functional, scan_layers, stack, unflatten
from models.layers import ConvNorm, Linear, patches
from models.lora import SHARDING, LoRA, merge
from tasks.base import Aux, Task
from tasks.base import merge as join
from training.sharding import init_state, make_mesh, put_batch
from training.step import make_train_step


class Tower(nnx.Module):
    """A 3x3 convolution, two stacked layers and a linear one: every shape of kernel."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.stem = ConvNorm(3, 4, 3, rngs=rngs)
        self.blocks = stack(lambda rngs: Linear(4, 4, dtype="float32", rngs=rngs), 2, rngs)
        self.head = Linear(4, 5, dtype="float32", rngs=rngs)

    def __call__(self, x):
        x = patches(self.stem(x)).grid
        return self.head(scan_layers(self.blocks, lambda f, x, _: (jnp.tanh(f(x)), None), x)[0])

    def below(self):
        return "stem/"


BASE = functional(lambda rngs: Tower(rngs=rngs))
X = jax.random.normal(jax.random.key(7), (2, 5, 5, 3))


def tower(**options):
    return LoRA(BASE, **{"pattern": "kernel$", "rank": 2, "alpha": 6.0} | options)


def moved(variables):
    """b is no longer zero: as after some training."""
    flat = flatten(variables["params"])
    flat |= {p: jnp.ones_like(x) for p, x in flat.items() if p.endswith("/b")}
    return {**variables, "params": unflatten(flat)}


def test_shapes_and_the_first_output_is_the_bases():
    variables, plain = (jax.jit(m.init)(jax.random.key(3)) for m in (tower(), BASE))
    shapes = {path: leaf.shape for path, leaf in flatten(variables["params"]["lora"]).items()}
    assert shapes == {
        "blocks/kernel/a": (2, 4, 2), "blocks/kernel/b": (2, 2, 4),
        "head/kernel/a": (4, 2), "head/kernel/b": (2, 5),
        "stem/kernel/a": (27, 2), "stem/kernel/b": (2, 4),
    }  # fmt: skip
    np.testing.assert_array_equal(tower().apply(variables, X), BASE.apply(plain, X))
    a = variables["params"]["lora"]["blocks"]["kernel"]["a"]
    assert (a[0] != a[1]).any() and 0.2 < float(a.std()) < 0.9
    alone = tower(pattern="^blocks/").init(jax.random.key(3))["params"]["lora"]
    np.testing.assert_array_equal(alone["blocks"]["kernel"]["a"], a)


def test_merged_equals_applied_equals_the_sum_by_hand():
    variables = moved(tower().init(jax.random.key(3)))
    plain = tower().merge(variables)
    assert "lora" not in plain["params"]
    np.testing.assert_allclose(BASE.apply(plain, X), tower().apply(variables, X), atol=1e-6)
    params, lora = variables["params"], variables["params"]["lora"]
    kernel = np.array(params["stem"]["kernel"])
    for i, j, c, o in np.ndindex(kernel.shape):
        kernel[i, j, c, o] += 6 / 2 * lora["stem"]["kernel"]["a"][9 * i + 3 * j + c].sum()
    np.testing.assert_allclose(plain["params"]["stem"]["kernel"], kernel, rtol=1e-5)
    pair = lora["blocks"]["kernel"]
    for layer in range(2):
        expected = params["blocks"]["kernel"][layer] + 3 * pair["a"][layer] @ pair["b"][layer]
        np.testing.assert_allclose(plain["params"]["blocks"]["kernel"][layer], expected, rtol=1e-5)
    np.testing.assert_array_equal(plain["params"]["head"]["bias"], params["head"]["bias"])


def test_errors_are_sentences():
    with pytest.raises(ValueError, match=r'model.lora.pattern="querry" matches no kernel; they'):
        tower(pattern="querry").init(jax.random.key(0))
    with pytest.raises(ValueError, match=r"model.lora.rank=0 must be at least 1"):
        tower(rank=0)
    variables = tower().init(jax.random.key(0))
    with pytest.raises(ValueError, match=r"hold no lora/ subtree"):
        tower().apply(BASE.init(jax.random.key(0)), X)
    del variables["params"]["head"]
    with pytest.raises(ValueError, match=r"hold `lora/head/kernel/a` but no `head/kernel`"):
        merge(variables)


class Regression(Task):
    """Squared distance of the tower's output to a target [B, S, 5]."""

    def __init__(self, model, frozen):
        self.model, self.frozen = model, frozen

    def init(self, key):
        variables = self.model.init(key)
        return variables["params"], variables["stats"]

    def loss(self, params, state, batch, key):
        variables = {"params": join(params, state.frozen), "stats": state.stats}
        error = (self.model.apply(variables, batch["x"]) - batch["y"]) ** 2
        return error.mean((1, 2)).sum(), Aux(jnp.float32(len(error)), {})


def test_only_the_adapters_are_trained():
    """Through the real step, on a mesh whose axes the kernels' own rules use."""
    task = Regression(tower(rank=3), frozen=(r"(?!lora/)",))
    mesh, tx = make_mesh(fsdp=2, tensor=2, devices=jax.devices()[:4]), optax.adam(1e-1)
    rules = (*SHARDING, (r"blocks/kernel", (None, "fsdp", "tensor")))
    state = init_state(task, tx, seed=0, mesh=mesh, rules=rules)
    paths = flatten(state.params)
    assert paths and all(path.startswith("lora/") for path in paths)
    assert "lora" not in state.frozen
    whole, a = state.frozen["blocks"]["kernel"], paths["lora/blocks/kernel/a"]
    assert tuple(whole.sharding.spec) == (None, "fsdp", "tensor")
    assert a.shape == (2, 4, 3) and "tensor" not in a.sharding.spec  # 2 does not divide 3
    before = jax.device_get(state)
    step = make_train_step(task, tx, seed=0, mesh=mesh)
    batch = {"x": np.repeat(X, 2, axis=0), "y": np.ones((4, 25, 5), np.float32)}
    losses = []
    for _ in range(8):
        state, metrics = step(state, put_batch(batch, mesh))
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.5 * losses[0]
    after = jax.device_get(state)
    jax.tree.map(np.testing.assert_array_equal, before.frozen, after.frozen)
    for path, old in flatten(before.params).items():
        assert (flatten(after.params)[path] != old).any(), path


def test_an_adapted_trunk_is_part_of_what_features_are_made_of():
    variables = tower().init(jax.random.key(0))
    assert tower().apply(variables, method="below") == "(lora/)?(stem/)"
