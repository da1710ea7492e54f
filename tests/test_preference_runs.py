"""Runs that learned preferences: judged by a command, read back as rewards, gone on from."""

import json

import jax
import numpy as np
import pytest

import experiment
from configs import preferences_dpo, preferences_reward_model
from evaluators import run as command
from rewards.fluency import Fluency
from rewards.model import Model
from serving.trained_run import trained
from training.checkpoint import Checkpointer
from training.guard import guard_config
from training.sharding import make_mesh, put_batch
from training.warm_start import warm_start


def save_run(workdir, config):
    """The folder of a run: config, vocabulary, and a checkpoint of its first values."""
    c = config.get_config("smoke").copy_and_resolve_references().unlock()
    c.data.options = dict(pairs=(16, 24, 8))
    built = experiment.build(c)
    workdir.mkdir()
    guard_config(workdir, built.config)
    built.keep_vocabulary(workdir)
    keeper = Checkpointer(workdir, every=1, best="dev/accuracy")
    state = built.init()
    keeper.save(2, state.replace(step=state.step + 2), {"dev/accuracy": 0.5})
    keeper.close()
    return workdir, built, state


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("runs") / "rm", preferences_reward_model)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("runs") / "dpo", preferences_dpo)


def test_a_command_judges_pairs(reward_model, tmp_path, capsys):
    workdir, built, _ = reward_model
    out = tmp_path / "judged.jsonl"
    arguments = [f"--workdir={workdir}", "--split=dev", "--batch_size=8", f"--out={out}"]
    assert command.main(arguments) == 0
    said = capsys.readouterr().out
    assert "24 pairs of dev" in said and "Bayes accuracy" in said
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(lines) == 24
    assert [x["probability"] for x in lines] == sorted(x["probability"] for x in lines)
    assert {x["chosen"] for x in lines} == {p.chosen for p in built.data.pairs("dev")}
    assert command.main([f"--workdir={workdir}", "--split=nowhere"]) == 2
    assert 'no pairs of a split "nowhere"' in capsys.readouterr().err


def test_a_reward_model_is_a_reward(reward_model):
    workdir, built, state = reward_model
    reward = Model(workdir=str(workdir), run=trained(workdir))
    reward.attach(built.data)
    rows = next(built.data.one_pass("dev", 8))
    found = jax.jit(reward)(rows["chosen"][..., 1:], rows, reward.variables)
    score = jax.jit(built.task.predictors()["score"])
    batch = {"prompt": rows["prompt"], "tokens": rows["chosen"]}
    np.testing.assert_allclose(found, score(built.task.variables(state), batch), atol=1e-6)


def test_a_policy_is_read_back_without_its_reference(policy):
    workdir, built, state = policy
    run = trained(workdir)
    own = built.task.variables(state)
    jax.tree.map(np.testing.assert_array_equal, run.variables["params"], own["params"])
    expected = dict(zip(("params", "stats"), built.task.init(jax.random.key(1)), strict=True))
    loaded = warm_start(expected, workdir=workdir)  # what config.init_from does
    assert len(loaded) == len(jax.tree.leaves(expected))
    reward = Fluency(workdir=str(workdir), run=run)
    rows = next(built.data.one_pass("dev", 8))
    found = jax.jit(reward)(rows["chosen"][..., 1:], rows, reward.variables)
    assert found.shape == (8, 1) and (np.asarray(found) < 0).all()


def test_a_language_model_learns_from_a_learned_reward(reward_model):
    """One update of text RL: the run's weights are constants of the state, and no others of it."""
    workdir, built, state = reward_model
    c = preferences_dpo.get_config("smoke").copy_and_resolve_references().unlock()
    c.data.update(options=dict(pairs=(16, 24, 8)), answers="chosen")
    c.data.tokenizer = str(workdir / "vocabulary.json")
    liked = dict(type="model", workdir=str(workdir), weight=2.0)
    c.task = dict(type="text_rl", samples=2, length=4, rewards=dict(liked=liked))
    c.evals = {}
    policy = experiment.build(c, mesh=make_mesh(devices=jax.devices()[:1]))
    policy.task.attach(policy.data, None)
    begin = policy.init()
    for a, b in zip(
        *map(jax.tree.leaves, (begin.frozen, built.task.variables(state))), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    batch = put_batch(next(policy.batches(0)), policy.mesh)
    before = jax.device_get(begin.params)
    after, metrics = policy.train_step(begin, batch)
    assert np.isfinite(metrics["reward/liked"]) and metrics["nonfinite"] == 0
    moved = [
        np.abs(a - b).max()
        for a, b in zip(*map(jax.tree.leaves, (before, after.params)), strict=True)
    ]
    assert max(moved) > 0
