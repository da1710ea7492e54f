"""Made-up preferences, and a whole training of a task on them as one program."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from data.preferences import Preferences
from training.state import TrainState


def made_up(batch_size=256, max_len=2, **options):
    """Texts of up to two of three words behind "more" and "less"."""
    options = dict(words=3, length=max_len, pairs=(20_000, 2_000), scale=0.8) | options
    return Preferences(
        source="synthetic_preferences",
        options=options,
        batch_size=batch_size,
        max_len=max_len,
        max_prompt=1,
    )


def begin(task, key=0):
    params, stats = jax.jit(task.init)(jax.random.key(key))
    params, frozen = task.freeze(params)
    return TrainState(jnp.int32(0), params, {}, stats, frozen, {})


def trained(task, data, *, steps, lr):
    """The state after so many steps of Adam, its rate falling to zero."""
    batches = list(itertools.islice(data.batches(seed=0), steps))
    batches = jax.tree.map(lambda *x: np.stack(x), *batches)
    tx = optax.adam(optax.cosine_decay_schedule(lr, steps))

    def step(state, batch):
        loss = jax.grad(task.loss, has_aux=True)
        grads, aux = loss(state.params, state, batch, jax.random.key(0))
        grads = jax.tree.map(lambda g: g / aux.count, grads)
        updates, opt_state = tx.update(grads, state.opt_state)
        params = optax.apply_updates(state.params, updates)
        stats = state.stats if aux.stats is None else aux.stats
        return state.replace(params=params, opt_state=opt_state, stats=stats), aux.metrics

    @jax.jit
    def whole(state, batches):
        return jax.lax.scan(step, state, batches)

    state = begin(task)
    return whole(state.replace(opt_state=tx.init(state.params)), batches)[0]


def whole_split(data, split):
    """A split as one batch."""
    return next(data.one_pass(split, data.sizes[split]))
