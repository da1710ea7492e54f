"""What may not change an update: micro-batches, devices, padding, and a stop in the middle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.decoding import EOS, PAD
from rewards.composite import Composite, Term
from rewards.length import Length
from tasks import rollouts
from tasks.actor_critic import ActorCritic
from tasks.text_rl import TextRL
from tests.tasks import tiny
from training.optimizer import make_optimizer
from training.sharding import init_state, make_mesh, put_batch
from training.step import make_train_step

ROWS = 8


class Likes(Length):
    """The share of even words: cheap, and different for every text."""

    def __init__(self):
        pass

    def __call__(self, tokens, batch, variables=None):
        word = tokens > EOS
        return ((tokens % 2 == 0) & word).sum(-1) / jnp.maximum(word.sum(-1), 1)


def composite(**options):
    return Composite({"likes": Term(reward=Likes(), **options)})


def made(cls=TextRL, **options):
    options = dict(samples=3, length=6, seed=5) | options
    return cls(model=tiny.captioner(), rewards=composite(), **options)


def batch():
    data = {k: np.asarray(v) for k, v in tiny.batch(ROWS).items()}
    return data | {"index": np.arange(ROWS, dtype=np.int32) + 40}


def updated(task, *, steps=2, devices=1, accum=1, passes=1, state=None):
    """(state after so many steps of SGD, metrics of the last)."""
    mesh = make_mesh(devices=jax.devices()[:devices])
    sgd = dict(type="sgd", lr=0.1, total_steps=9, warmup=0, schedule="constant", clip=0.0)
    tx, _ = make_optimizer(**sgd, weight_decay=0.0)
    step = make_train_step(task, tx, seed=0, mesh=mesh, accum_steps=accum, passes=passes)
    state = init_state(task, tx, seed=0, mesh=mesh) if state is None else state
    for _ in range(steps):
        data = put_batch(batch(), mesh)
        state, metrics = step(state, task.prepare(state, data, jax.random.key(0)))
    assert step.cache_size() == 1
    return jax.device_get(state), {k: float(v) for k, v in metrics.items()}


def same(a, b, atol):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol, rtol=0), a, b)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(dict(), marks=pytest.mark.slow),
        pytest.param(
            dict(baseline="greedy", aggregate="token_mean", likelihood=0.3), marks=pytest.mark.slow
        ),
        dict(baseline="group", scale="group", aggregate="sequence_mean", kl=0.1, entropy=0.01),
    ],
    ids=["rloo", "scst+xe", "grpo"],
)
def test_micro_batches_and_devices_change_nothing(options):
    whole, told = updated(made(**options))
    for how in (dict(accum=8), dict(devices=4)):
        other, also = updated(made(**options), **how)
        same(whole.params, other.params, 2e-6)
        assert told["reward"] == pytest.approx(also["reward"], abs=1e-6)


def test_padding_changes_nothing():
    """Texts, lengths and references as they are, more room for all of them."""
    task, wide = made(kl=0.1, likelihood=0.2), made(kl=0.1, likelihood=0.2, length=9)
    mesh = make_mesh(devices=jax.devices()[:1])
    tx, _ = make_optimizer(lr=0.1, total_steps=9, weight_decay=0.0)
    state = init_state(task, tx, seed=0, mesh=mesh)
    data = {k: jnp.asarray(v) for k, v in batch().items()}
    rolled = {**data, **jax.jit(task.rollout)(state.params, state, data)}
    rolled["sampled"] = rolled["sampled"].at[..., -1].set(EOS)  # all end by themselves
    more = {k: jnp.pad(rolled[k], ((0, 0), (0, 0), (0, 3))) for k in ("sampled", "tokens")}
    value = lambda t, b: jax.jit(  # noqa: E731
        jax.value_and_grad(lambda p: t.learn(p, state, b, jax.random.key(0))[0])
    )(state.params)
    (a, da), (b, db) = value(task, rolled), value(wide, {**rolled, **more})
    assert float(a) == pytest.approx(float(b), rel=1e-5)
    same(da, db, 1e-5)


def test_rows_that_are_padding_teach_nothing():
    task = made(baseline="moving_average", kl=0.1, likelihood=0.2)
    tx, _ = make_optimizer(lr=0.1, total_steps=9, weight_decay=0.0)
    state = init_state(task, tx, seed=0, mesh=make_mesh(devices=jax.devices()[:1]))
    data = {k: jnp.asarray(v) for k, v in batch().items()}
    part = {k: v[:5] for k, v in data.items()}
    filled = {**data, "index": data["index"].at[5:].set(-1)}
    (a, aux), (b, more) = (
        jax.jit(task.loss)(state.params, state, d, jax.random.key(0)) for d in (part, filled)
    )
    assert float(a) == pytest.approx(float(b), rel=1e-5) and float(aux.count) == float(more.count)
    same(aux.metrics, more.metrics, 1e-4)
    same(aux.stats, more.stats, 1e-6)


@pytest.mark.parametrize("cls", [TextRL, ActorCritic])
def test_on_the_first_pass_the_ratio_is_one(cls):
    options = dict(clip=(0.2, 0.2), before=True, kl=0.1)
    _, told = updated(made(cls, **options), steps=1)
    assert told["clipped"] == 0 and told["kl"] == pytest.approx(0, abs=1e-6)
    _, told = updated(made(cls, **options, **({} if cls is TextRL else dict(value=1.0))), passes=4)
    assert told["kl"] > 1e-5


def test_stopped_in_the_middle_it_goes_on_bit_by_bit():
    task = made(baseline="moving_average", kl=0.1)
    whole, _ = updated(task, steps=4)
    half, _ = updated(task, steps=2)
    other, _ = updated(task, steps=2, state=put_back(half))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), whole, other)


def put_back(state):
    mesh = make_mesh(devices=jax.devices()[:1])
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.tree.map(lambda x: jax.device_put(x, everywhere), state)


def test_dropout_is_off_in_rollouts_and_on_policy_log_probabilities():
    model = tiny.captioner(dropout=0.5)
    variables = model.init(jax.random.key(0))
    data = tiny.batch(ROWS)
    keys = rollouts.row_keys(jax.random.key(1), {"index": jnp.arange(ROWS)}, ROWS)
    how = dict(n=4, length=6)
    draw = jax.jit(lambda: rollouts.sample_texts(model, variables, data["features"], keys, **how))
    drawn = [draw(), draw()]
    np.testing.assert_array_equal(*drawn)
    read = jax.jit(lambda x: rollouts.words_of(model, variables, data["features"], x))
    words, again = read(drawn[0]), read(drawn[0])
    np.testing.assert_array_equal(words.logprob, again.logprob)


def test_samples_have_the_policys_probabilities_at_its_temperature():
    """The mean of log π under which they were drawn is minus its entropy."""
    model, temperature = tiny.captioner(), 0.7
    variables, data = model.init(jax.random.key(0)), tiny.batch(1)
    keys = jax.random.split(jax.random.key(3), 1)
    how = dict(n=4000, length=1, temperature=temperature)
    drawn = rollouts.sample_texts(model, variables, data["features"], keys, **how)
    words = rollouts.words_of(model, variables, data["features"], drawn, temperature=temperature)
    chaos = float(rollouts.entropy(words.all)[0, 0, 0])
    spread = float(words.logprob.std()) / 4000**0.5
    assert float(-words.logprob.mean()) == pytest.approx(chaos, abs=4 * spread + 1e-6)
    assert not np.isin(drawn, (PAD, 1, 3)).any()


def test_options_that_do_not_go_together():
    for said, options in {
        "samples=1": dict(samples=1),
        'baseline="best"': dict(baseline="best"),
        "clip=": dict(clip=(0.2,)),
        "temperature=0": dict(temperature=0.0),
    }.items():
        with pytest.raises(ValueError, match=said):
            made(**options)
