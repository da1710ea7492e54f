"""Transfer on a toy tree: depth factors by hand, and layers that wait until their step comes."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_task import Toy, batches, setting, trained

from training.checkpoint import Checkpointer
from training.loop import fit
from training.optimizer import make_optimizer
from training.sharding import abstract_state, put_batch
from training.state import flatten
from training.transfer import depth_factors

ONES = jnp.ones((3, 2))
TREE = {
    "encoder": {
        "stem": {"kernel": ONES},
        "blocks": {str(i): {"project": {"kernel": ONES}} for i in (9, 10, 11)},
        "conv_1": {"kernel": ONES},
    },
    "decoder": {
        "embed": {"embedding": ONES},
        "blocks": {"attn": {"kernel": jnp.ones((4, 3, 2))}, "norm": {"scale": jnp.ones((4, 2))}},
        "output": {"kernel": ONES},
    },
}
SGD = dict(type="sgd", lr=1.0, momentum=0.0, schedule="constant", total_steps=9)
UNFREEZE = ((r"^body/kernel", 2), (r"^body/", 4))


def one_update(params, **options):
    tx, _ = make_optimizer(**SGD | options)
    gradient = jax.tree.map(jnp.ones_like, params)
    updates, _ = tx.update(gradient, tx.init(params), params, step=0)
    return {path: -u for path, u in flatten(updates).items()}


def test_numbered_and_stacked_blocks_decay_from_the_top():
    found = one_update(TREE, layer_decay=0.5)
    of = lambda path: float(np.unique(found[path]).item())  # noqa: E731
    assert of("encoder/conv_1/kernel") == of("decoder/output/kernel") == 1
    # 9 < 10 < 11 as numbers; as texts "10" would come first.
    numbers = [of(f"encoder/blocks/{i}/project/kernel") for i in (9, 10, 11)]
    assert numbers == [0.125, 0.25, 0.5] and of("encoder/stem/kernel") == 0.0625
    for path in ("attn/kernel", "norm/scale"):
        stacked = found[f"decoder/blocks/{path}"]
        by_layer = np.asarray(stacked).reshape(4, -1)
        np.testing.assert_array_equal(
            by_layer, [[0.5**n] * by_layer.shape[1] for n in (4, 3, 2, 1)]
        )
    assert of("decoder/embed/embedding") == 0.5**5


def test_stacked_and_numbered_layers_have_the_same_factors():
    numbered = depth_factors({"blocks": {str(i): {"kernel": ONES} for i in range(4)}}, 0.75)
    stacked = depth_factors({"blocks": {"kernel": jnp.ones((4, 3, 2))}}, 0.75)["blocks/kernel"]
    assert stacked.shape == (4, 1, 1)
    np.testing.assert_allclose(stacked[:, 0, 0], [numbered[f"blocks/{i}/kernel"] for i in range(4)])


def test_decay_is_kept_to_its_paths_and_multiplies_lr_factors():
    options = dict(layer_decay=0.5, layer_decay_paths="^encoder/", lr_factors=(("^encoder/", 0.1),))
    found = one_update(TREE, **options)
    assert all((found[path] == 1).all() for path in found if path.startswith("decoder/"))
    np.testing.assert_allclose(found["encoder/blocks/10/project/kernel"], 0.025)
    np.testing.assert_allclose(found["encoder/conv_1/kernel"], 0.1)


def test_frozen_lower_blocks_do_not_change_the_upper_ones():
    upper = {"encoder": {"blocks": {"11": TREE["encoder"]["blocks"]["11"]}}}
    assert depth_factors(upper, 0.5) == {"encoder/blocks/11/project/kernel": 0.5}


def test_layer_decay_errors():
    with pytest.raises(ValueError, match=r"optim.layer_decay=1.5 must lie in \(0, 1\]"):
        make_optimizer(total_steps=9, layer_decay=1.5)
    tx, _ = make_optimizer(total_steps=9, layer_decay=0.5, layer_decay_paths="^coder/")
    with pytest.raises(
        ValueError, match=r'layer_decay_paths="\^coder/" finds has blocks; the path'
    ):
        tx.init(TREE)


@pytest.mark.parametrize("kind", ["adamw", "sgd", "adafactor"])
def test_a_layer_waits_untouched_then_starts_as_in_a_new_run(kind):
    """Neither update, weight decay nor moments before its step; the first step of a fresh rule."""
    optim = SGD | dict(type=kind, lr=0.1, momentum=0.9, weight_decay=0.1)
    params = {"a": {"kernel": ONES}, "b": {"kernel": 2 * ONES}}
    gradient = jax.tree.map(lambda x: 0.3 * x, params)
    tx, _ = make_optimizer(**optim, unfreeze=(("^b/", 3),))
    plain, _ = make_optimizer(**optim)
    state, always = tx.init(params), plain.init(params)
    initial = flatten(state)
    for step in range(3):
        updates, state = tx.update(gradient, state, params, step=jnp.int32(step))
        expected, always = plain.update(gradient, always, params, step=jnp.int32(step))
        np.testing.assert_array_equal(updates["a"]["kernel"], expected["a"]["kernel"])
        assert not np.any(updates["b"]["kernel"])
        held = [path for path in flatten(state) if "from_3" in path]
        assert held or kind == "sgd"
        for path in held:
            np.testing.assert_array_equal(flatten(state)[path], initial[path])
    updates, _ = tx.update(gradient, state, params, step=jnp.int32(3))
    fresh, _ = plain.update(gradient, plain.init(params), params, step=jnp.int32(3))
    np.testing.assert_allclose(updates["b"]["kernel"], fresh["b"]["kernel"], rtol=1e-6)


def test_held_gradients_do_not_count_for_clipping():
    params = {"a": {"kernel": ONES}, "b": {"kernel": ONES}}
    found = one_update(params, clip=1.0, unfreeze=(("^b/", 1),))
    np.testing.assert_allclose(found["a/kernel"], 6**-0.5, rtol=1e-6)
    assert not found["b/kernel"].any()


def test_a_regex_that_finds_nothing_and_the_first_match_wins():
    tx, _ = make_optimizer(total_steps=9, unfreeze=(("^boddy/", 3),))
    with pytest.raises(ValueError, match=r'optim.unfreeze: "\^boddy/" matches no trained'):
        tx.init(TREE)
    first = trained(steps=2, optim=dict(unfreeze=UNFREEZE))[0].params
    third = trained(steps=3, optim=dict(unfreeze=UNFREEZE))[0].params
    fifth = trained(steps=5, optim=dict(unfreeze=UNFREEZE))[0].params
    moved = lambda a, b, name: bool((a["body"][name] != b["body"][name]).any())  # noqa: E731
    assert not first["body"]["bias"].any() and not third["body"]["bias"].any()
    assert moved(first, third, "kernel") and moved(third, fifth, "bias")
    assert (first["head"]["kernel"] != third["head"]["kernel"]).any()


def test_resume_across_an_unfreezing_is_bitwise(tmp_path):
    """Saved at step 3, between the two openings, and restored: as if nothing had happened."""
    optim = dict(type="adamw", unfreeze=UNFREEZE, weight_decay=0.1, clip=1.0)
    whole, _ = trained(Toy(), steps=6, optim=optim, ema=0.9)
    task, tx, mesh, step, state = setting(Toy(), optim=optim, ema=0.9)
    run = functools.partial(fit, task, seed=0, put=functools.partial(put_batch, mesh=mesh))
    end = lambda loop: collections.deque(loop, maxlen=1).pop()[1]  # noqa: E731
    state = end(run(state, batches(), step, total_steps=3))
    keeper = Checkpointer(tmp_path)
    keeper.save(3, state)
    keeper.wait()
    state, _ = keeper.restore(abstract_state(task, tx, mesh=mesh, ema=0.9))
    keeper.close()
    state = end(run(state, batches(3), step, total_steps=6))
    a, b = flatten(whole), flatten(jax.device_get(state))
    assert a.keys() == b.keys() and any("from_4" in path for path in a)
    for path in a:
        np.testing.assert_array_equal(a[path], b[path], err_msg=path)
