"""A toy GRPO step beside google-tunix's, of the same model in the same process.

    TUNIX/bin/python -m benchmarks.grpo_toy [--width 32] [--rounds 9] [--steps 10]

TUNIX has google-tunix (its own environment; it brings its jax along). The policy is tunix's Qwen3,
2 layers: 8 prompts of 4 tokens, 8 samples each of at most 10 tokens, rewarded by their share of
even words; GRPO without a reference, one Adam update. Ours is one program, tunix's is its
GRPOLearner as documented, its reward on the strings that it hands out. Log-probabilities of the
same texts are compared first; then both take turns inside tunix's own loop. The wider the model,
the more of a step is the model itself, which is the same code.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import sentencepiece
from flax import nnx
from tunix.models.qwen3 import model as qwen3
from tunix.rl import common, rl_cluster
from tunix.rl.grpo import grpo_learner
from tunix.rl.rollout import base_rollout

from models.decoding import EOS, PAD, UNSAID
from models.functional import functional
from rewards.base import Reward, spoken
from rewards.composite import Composite, Term
from tasks.text_rl import TextRL
from training.optimizer import make_optimizer
from training.sharding import init_state, make_mesh, put_batch
from training.step import make_train_step

PROMPTS, SAMPLES, PROMPT, LENGTH, VOCABULARY, LR = 8, 8, 4, 10, 64, 1e-4


class Qwen(qwen3.Qwen3):
    """Never says what ours never says: both have one distribution."""

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[jax.Array, Any]:
        logits, cache = super().__call__(*args, **kwargs)
        return logits.at[..., jnp.array(UNSAID)].add(-1e9), cache


def qwen(width: int, rngs: nnx.Rngs) -> Qwen:
    sizes = dict(num_layers=2, embed_dim=width, hidden_dim=2 * width, num_heads=4)
    sizes |= dict(
        num_kv_heads=4, head_dim=width // 4, vocab_size=VOCABULARY, rope_theta=10_000, norm_eps=1e-6
    )
    return Qwen(qwen3.ModelConfig(**sizes, use_tied_embedding=True), rngs=rngs)


class Policy(nnx.Module):
    """That model with a captioner's interface: a text begins with the last token of its prompt."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.qwen = qwen(width, rngs)

    def encode(self, inputs: jax.Array) -> jax.Array:
        return inputs

    def __call__(self, inputs: jax.Array, tokens: jax.Array, **_: Any) -> dict[str, jax.Array]:
        (b, n, t), s = tokens.shape, inputs.shape[1]
        before = jnp.broadcast_to(inputs[:, None], (b, n, s))
        whole = jnp.concatenate([before, tokens], -1).reshape(b * n, s + t)
        places = jnp.broadcast_to(jnp.arange(s + t), whole.shape)
        logits, _ = self.qwen(whole, places, None, jnp.tri(s + t, dtype=bool)[None])
        return {"logits": logits[:, s:].reshape(b, n, t, -1)}

    def start(self, inputs: jax.Array, n: int, length: int) -> dict[str, Any]:
        b, s = inputs.shape
        cache = self.qwen.init_cache(b, s + length, jnp.float32)
        places = jnp.broadcast_to(jnp.arange(s), (b, s))
        _, cache = self.qwen(inputs, places, cache, jnp.tri(s, s + length, dtype=bool)[None])
        cache = jax.tree.map(lambda x: jnp.repeat(x, n, axis=0), cache)
        state = {"memory": jnp.int32(s + length), "carry": jnp.zeros((b, n)), "cache": cache}
        return {**state, "position": jnp.int32(s)}

    def step(self, state: dict[str, Any], token: jax.Array) -> tuple[dict[str, Any], jax.Array]:
        (b, n), t = token.shape, state["position"]
        places = jnp.full((b * n, 1), t)
        size = state["cache"]["layer_0"]["k"].shape[1]
        seen = (jnp.arange(size) <= t)[None, None]
        logits, cache = self.qwen(token.reshape(-1, 1), places, state["cache"], seen)
        state = {**state, "cache": cache, "position": t + 1}
        return state, logits.reshape(b, n, -1)


class Even(Reward):
    """The share of even words."""

    def __call__(self, tokens: jax.Array, batch: Any, variables: Any = None) -> jax.Array:
        words = spoken(tokens)
        return ((words % 2 == 0) & (words != PAD)).sum(-1) / jnp.maximum((words != PAD).sum(-1), 1)


class Words(sentencepiece.SentencePieceProcessor):
    """Token i is written "i"."""

    pad_id = lambda self: PAD  # noqa: E731
    bos_id = lambda self: 1  # noqa: E731
    eos_id = lambda self: EOS  # noqa: E731
    GetPieceSize = lambda self: VOCABULARY  # noqa: E731

    def DecodeIds(self, ids: Any) -> str:
        return " ".join(str(int(i)) for i in ids)

    def EncodeAsIds(self, text: str, **_: Any) -> list[int]:
        return [int(word) for word in text.split()]


def even(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
    """`Even` of the strings that tunix hands out."""
    found = []
    for text in completions:
        words = [int(w) for w in text.split() if int(w) not in (PAD, EOS)]
        found.append(sum(w % 2 == 0 for w in words) / max(len(words), 1))
    return found


def prompts() -> np.ndarray:
    return np.random.default_rng(0).integers(4, VOCABULARY, (PROMPTS, PROMPT), np.int32)


def ours(actor: Qwen) -> tuple[Any, Any, Any, Any]:
    """(task, state with the actor's weights, batch, train step)."""
    task = TextRL(
        model=functional(lambda rngs: Policy(actor.config.embed_dim, rngs)),
        rewards=Composite({"even": Term(reward=Even())}),
        samples=SAMPLES,
        length=LENGTH,
        baseline="group",
        scale="group",
        aggregate="sequence_mean",
        clip=(0.2, 0.2),
    )
    tx, _ = make_optimizer(lr=LR, schedule="constant", total_steps=10**6)
    mesh = make_mesh()
    state = init_state(task, tx, seed=0, mesh=mesh)
    given = nnx.to_pure_dict(nnx.state(actor, nnx.Param))
    copied = lambda old, new: jax.device_put(np.asarray(new), old.sharding)  # noqa: E731
    params = {**state.params, "qwen": jax.tree.map(copied, state.params["qwen"], _named(given))}
    asked = prompts()
    tokens = np.zeros((PROMPTS, 1, LENGTH + 1), np.int32)
    tokens[:, 0, :2] = np.stack([asked[:, -1], np.full(PROMPTS, EOS)], -1)
    batch = {"prompt": asked[:, :-1], "tokens": tokens, "index": np.arange(PROMPTS, dtype=np.int32)}
    step = make_train_step(task, tx, seed=0, mesh=mesh)
    return task, state.replace(params=params), put_batch(batch, mesh), step


def _named(tree: Any) -> Any:
    return {str(k): _named(v) for k, v in tree.items()} if isinstance(tree, dict) else tree


def compare(actor: Qwen, task: Any, state: Any, batch: Any) -> None:
    """Stops where tunix and we give the same sampled texts other log-probabilities."""
    sampled = jax.jit(task.rollout)(state.params, state, batch)["sampled"]
    mine = task.words(task.policy(state.params, state), batch, sampled).logprob
    asked = np.repeat(prompts(), SAMPLES, 0)
    flat = sampled.reshape(-1, LENGTH)
    theirs = common.compute_per_token_logps(*nnx.split(actor), jnp.asarray(asked), flat, PAD, EOS)
    real = np.asarray(flat != PAD)
    worst = np.abs(np.asarray(mine).reshape(real.shape) - np.asarray(theirs))[real].max()
    print(f"{real.sum()} sampled tokens, largest difference of a log-probability {worst:.1e}")
    if worst > 1e-4:
        raise SystemExit("the two differ: no timing.")


def learner(actor: Qwen, steps: int) -> grpo_learner.GRPOLearner:
    """tunix's, with the same sizes and the same Adam."""
    mesh = jax.make_mesh((1, 1), ("fsdp", "tp"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    roles = rl_cluster.Role
    training = rl_cluster.RLTrainingConfig(
        actor_optimizer=optax.adam(LR), eval_every_n_steps=10**9, max_steps=steps
    )
    rollout = base_rollout.RolloutConfig(
        max_prompt_length=PROMPT,
        max_tokens_to_generate=LENGTH,
        kv_cache_size=32,
        temperature=1.0,
        top_p=1.0,
        top_k=None,
    )
    config = rl_cluster.ClusterConfig(
        role_to_mesh={role: mesh for role in (roles.ACTOR, roles.REFERENCE, roles.ROLLOUT)},
        rollout_engine="vanilla",
        offload_to_cpu=False,
        training_config=training,
        rollout_config=rollout,
    )
    cluster = rl_cluster.RLCluster(actor=actor, tokenizer=Words(), cluster_config=config)
    algorithm = grpo_learner.GRPOConfig(num_generations=SAMPLES, num_iterations=1, beta=0.0)
    return grpo_learner.GRPOLearner(cluster, algorithm, reward_fns=even)


def clock() -> np.ndarray:
    return np.array([time.perf_counter(), time.process_time()])


def main() -> None:
    """Compare, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=10)
    args = parser.parse_args()
    os.environ.setdefault("TQDM_DISABLE", "1")
    actor = qwen(args.width, nnx.Rngs(0))
    task, state, batch, step = ours(actor)
    compare(actor, task, state, batch)
    times: dict[str, list] = {"Capax": [], "tunix": []}

    def ours_now() -> np.ndarray:
        nonlocal state
        start = clock()
        for _ in range(args.steps):
            state, metrics = step(state, batch)
        jax.block_until_ready(metrics)
        return (clock() - start) / args.steps

    asked = np.array([" ".join(map(str, row)) for row in prompts()])

    def data() -> Iterator[dict]:
        """Batches for tunix; between its rounds ours have their turn. The first two are unsaid."""
        for i in range(args.rounds + 2):
            start = clock()
            for _ in range(args.steps):
                yield {"prompts": asked}
            theirs, mine = (clock() - start) / args.steps, ours_now()
            if i > 1:
                times["tunix"].append(theirs)
                times["Capax"].append(mine)

    learner(actor, (args.rounds + 2) * args.steps + 1).train(data())
    found = {k: np.array(v) for k, v in times.items()}
    for k, kind in enumerate(("wall", "processor")):
        ratio = found["tunix"][:, k] / found["Capax"][:, k]
        middle = {name: 1e3 * np.median(v[:, k]) for name, v in found.items()}
        print(
            f"{kind:9} Capax {middle['Capax']:.1f} ms  tunix {middle['tunix']:.1f} ms  "
            f"{np.median(ratio):.1f}x ({ratio.min():.1f}-{ratio.max():.1f})"
        )


if __name__ == "__main__":
    main()
