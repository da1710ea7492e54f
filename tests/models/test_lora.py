"""LoRA's arithmetic by hand, its first output, and what learns when only the adapters do."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from models import transformer
from models.captioner import Captioner
from models.decoding import BOS
from models.functional import flatten, functional, scan_layers, stack, unflatten
from models.layers import ConvNorm, Linear, patches
from models.lora import SHARDING, LoRA, merge
from models.resnet import ResNet
from tasks.captioning import Captioning
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
    variables, plain = (m.init(jax.random.key(3)) for m in (tower(), BASE))
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


V = 16


@pytest.fixture(scope="module")
def adapted():
    """A tiny captioner with adapters on its stacked decoder."""
    encoder = partial(ResNet, depth=18, stages=1, stem="small", base_width=8)
    decoder = partial(transformer.Transformer, width=8, layers=2, heads=2, max_length=4)
    make = partial(Captioner, encoder=encoder, decoder=decoder, vocab_size=V)
    return LoRA(functional(lambda rngs: make(rngs=rngs)), pattern=r"decoder/.*/kernel", rank=2)


def test_only_the_adapters_are_trained(adapted):
    """Through the real step, on a mesh whose axes the decoder's own rules use."""
    task = Captioning(model=adapted, frozen=(r"(?!lora/)",))
    mesh, tx = make_mesh(fsdp=2, tensor=2, devices=jax.devices()[:4]), optax.adam(1e-2)
    rules = SHARDING + transformer.SHARDING
    state = init_state(task, tx, seed=0, mesh=mesh, rules=rules)
    paths = flatten(state.params)
    assert paths and all(path.startswith("lora/decoder/") for path in paths)
    assert not any("lora" in path for path in flatten(state.frozen))
    for path, leaf in paths.items():  # rank 2 divides nothing that a kernel's rule would split
        assert "tensor" not in jax.tree.leaves(tuple(leaf.sharding.spec)), path
    before = jax.device_get(state)
    step = make_train_step(task, tx, seed=0, mesh=mesh)
    rng = np.random.default_rng(0)
    tokens = np.insert(rng.integers(4, V, (8, 1, 4)), 0, BOS, axis=-1).astype(np.int32)
    batch = {"features": rng.normal(size=(8, 4, 8)).astype(np.float16), "tokens": tokens}
    losses = []
    for _ in range(8):
        state, metrics = step(state, put_batch(batch, mesh))
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0] - 0.01
    after = jax.device_get(state)
    jax.tree.map(np.testing.assert_array_equal, before.frozen, after.frozen)
    changed = {
        p for p, x in flatten(after.params).items() if (x != flatten(before.params)[p]).any()
    }
    assert {path[-2:] for path in changed} == {"/a", "/b"} and len(changed) > len(paths) * 0.9


def test_an_adapted_trunk_is_part_of_what_features_are_made_of():
    variables = tower().init(jax.random.key(0))
    assert tower().apply(variables, method="below") == "(lora/)?(stem/)"
