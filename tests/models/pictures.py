"""What the tests of encoders share: models made of a class, noise as photographs, the cut's law."""

import re

import jax
import jax.numpy as jnp

from models.functional import Keys, functional

KEY = jax.random.key(0)


def model(encoder, /, **kw):
    return functional(lambda rngs: encoder(rngs=rngs, **kw))


def photos(height, width, batch=2):
    return jax.random.randint(KEY, (batch, height, width, 3), 0, 256).astype(jnp.uint8)


def shapes(encoder, height, width=0, **kw):
    """(grid's, pooled's shape) for two images, without computing anything."""
    m = model(encoder, **kw)
    images = jax.ShapeDtypeStruct((2, height, width or height, 3), jnp.uint8)
    return tuple(x.shape for x in jax.eval_shape(lambda x: m.apply(m.init(KEY), x), images))


def attributes(encoder, *names, **kw):
    found = []

    def read():
        made = encoder(rngs=Keys(KEY), **kw)
        found.extend(getattr(made, name) for name in names)

    jax.eval_shape(read)
    return tuple(found)


def count(encoder, **kw):
    params = jax.eval_shape(model(encoder, **kw).init, KEY)["params"]
    return sum(x.size for x in jax.tree.leaves(params))


def check_cut(encoder, size, **kw):
    """A cut does not change the whole, and the trunk reads the parameters that `below` names.

    Seen in the programs: nothing is compiled. `kw` holds the cut.
    """
    images = photos(size, size)
    texts = []
    for m in (model(encoder, **kw), model(encoder, **{**kw, "cut": 0})):
        variables = jax.eval_shape(m.init, KEY)
        text = str(jax.make_jaxpr(m.apply)(variables, images))
        texts.append(re.sub(r"0x[0-9a-f]+", "", text))
    assert texts[0] == texts[1]
    check_below(encoder, images, **kw)


def check_below(encoder, images, **kw):
    m = model(encoder, **kw)
    variables = jax.eval_shape(m.init, KEY)
    traced = jax.make_jaxpr(lambda v: m.apply(v, images, method="trunk"))(variables)
    assert len(traced.out_avals[0].shape) == 4, "by this the captioner tells features from a grid"
    read = {id(x) for eqn in traced.jaxpr.eqns for x in eqn.invars}
    paths, _ = zip(*jax.tree.leaves_with_path(variables), strict=True)
    names = [jax.tree_util.keystr(path[1:], simple=True, separator="/") for path in paths]
    used = {name for name, x in zip(names, traced.jaxpr.invars, strict=True) if id(x) in read}
    (below,) = attributes(encoder, "below", **kw)
    assert used == {name for name in names if re.match(below, name)} != set()
