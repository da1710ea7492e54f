"""ResNets: published sizes, both places of the stride, long stages scanned as if unrolled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import resnet
from models.functional import flatten, functional, unflatten
from models.resnet import Block, ResNet, layout
from tests.models.pictures import KEY, attributes, check_below, check_cut, count, model, photos
from tests.models.pictures import shapes as grids

PUBLISHED = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160, 152: 60_192_808}


@pytest.mark.parametrize("depth", PUBLISHED)
def test_parameter_counts_are_the_published_ones(depth):
    assert count(ResNet, depth=depth, num_classes=1000) == PUBLISHED[depth]


def test_grids_of_any_size():
    assert grids(ResNet, 224) == ((2, 49, 512), (2, 512))
    assert grids(ResNet, 100, 65, depth=34)[0] == (2, 4 * 3, 512)
    assert grids(ResNet, 64, depth=50)[0] == (2, 4, 2048)
    assert grids(ResNet, 32, depth=101, stride_on=1)[0] == (2, 1, 2048)
    small = dict(stages=3, stem="small", base_width=32)
    assert grids(ResNet, 64, 63, **small)[0] == (2, 64, 128)
    assert attributes(ResNet, "width", "stride", **small) == (128, 8)


def test_v1_strides_before_it_looks_and_v15_while_it_looks():
    x = jax.random.normal(KEY, (1, 6, 6, 8))
    for stride_on, unseen in ((1, True), (3, False)):
        kw = dict(bottleneck=True, stride_on=stride_on, eps=1e-5, dtype="float32")
        m = functional(lambda rngs, kw=kw: Block(8, 4, 2, **kw, rngs=rngs))
        variables = jax.jit(lambda m=m: jax.tree.map(lambda v: v + 0.1, m.init(KEY)))()
        loss = lambda x, m=m, v=variables: (m.apply(v, x, False) ** 2).sum()  # noqa: E731
        odd = jax.jit(jax.grad(loss))(x)[:, 1::2, 1::2]
        assert (np.abs(odd).max() == 0) == unseen


def test_a_long_stage_is_a_stack_that_computes_what_its_blocks_would(monkeypatch):
    monkeypatch.setitem(resnet.DEPTHS, 7, (True, (7, 1, 1, 1)))
    kw = dict(depth=7, stages=1, stem="small", base_width=4)
    places = layout(7, 1)[0]
    assert places == [("blocks/0", None), *(("blocks/1", i) for i in range(6))]
    stacked = model(ResNet, **kw)
    variables = jax.tree.map(lambda v: v + 0.1, jax.jit(stacked.init)(KEY))
    monkeypatch.setattr(resnet, "STACKED_FROM", 99)
    loop = model(ResNet, **kw)
    assert layout(7, 1)[0] == [(f"blocks/{i}", None) for i in range(7)]

    def unstacked(tree):
        flat = flatten(tree)
        out = {k: v for k, v in flat.items() if not k.startswith("blocks/")}
        for i, (path, index) in enumerate(places):
            for name, value in flat.items():
                if name.startswith(f"{path}/"):
                    name = name.replace(path, f"blocks/{i}", 1)
                    out[name] = value if index is None else value[index]
        return unflatten(out)

    @jax.jit
    def both(variables):
        def run(params, m, stats):
            v = {"params": params, "stats": stats}
            out, new = m.apply(v, photos(16, 16), train_stats=True, return_stats=True)
            return (out.pooled**2).mean(), new

        def learn(m, params, stats):
            (loss, stats), gradient = jax.value_and_grad(run, has_aux=True)(params, m, stats)
            return loss, gradient, stats

        parts = variables["params"], variables["stats"]
        loss, *trees = learn(stacked, *parts)
        return (loss, *map(unstacked, trees)), learn(loop, *map(unstacked, parts))

    one, two = both(variables)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-4)


def test_a_deep_one_is_no_longer_a_program_than_a_shallow_one():
    def length(depth):
        m = model(ResNet, depth=depth)
        variables = jax.eval_shape(m.init, KEY)
        image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.uint8)
        return len(jax.make_jaxpr(m.apply)(variables, image).jaxpr.eqns)

    assert length(152) < length(50)


@pytest.mark.parametrize("cut", [1, 2])
def test_it_can_be_cut_after_a_stage(cut):
    check_cut(ResNet, 64, cut=cut, stages=3)


def test_below_names_whole_stacks():
    check_below(ResNet, photos(64, 64), cut=3, depth=101, base_width=4)
    with pytest.raises(ValueError, match=r"encoder.cut 4 is not in 0..3"):
        jax.eval_shape(model(ResNet, cut=4).init, KEY)
