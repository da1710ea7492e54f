"""The dialogue policy of a trained run, with the environment that it was trained in."""

from __future__ import annotations

import os

import jax

from environments.rollout import Policy
from environments.slot_filling import SlotFilling
from models.functional import functional
from serving.trained_run import load_variables, read_config
from training.build import construct, maker


def load(
    workdir: str | os.PathLike, *, path: str = "", which: str = "best"
) -> tuple[SlotFilling, Policy]:
    """(environment, policy) of a run of tasks/environment_rl.py; it takes the likeliest action.

    path: where the domain's file is now, "" = where it was. which: best, latest or a step.
    Raises ValueError or OSError as a sentence.
    """
    config = read_config(workdir)
    section = dict(config.get("task", {}).get("environment") or {})
    if section.get("type") != "slot_filling":
        raise ValueError(f"--workdir={workdir} is not a run that was trained in dialogues.")
    if path:
        section["path"] = path
    environment = construct("environments", section, where="config.task.environment")
    sizes = {k: getattr(environment, k) for k in ("observation_size", "num_actions")}
    made = maker("models", config["model"], **sizes)
    model = functional(lambda rngs: made(rngs=rngs))
    variables = load_variables(workdir, which)

    @jax.jit
    def policy(observation: jax.Array, key: jax.Array) -> jax.Array:
        logits, _ = model.apply(variables, observation)
        return logits.argmax(-1)

    return environment, policy
