"""A dialogue between a policy and the simulated user, as lines to read."""

from __future__ import annotations

import jax
import numpy as np

from environments.dialogue_acts import BOOK
from environments.rollout import Policy
from environments.slot_filling import SlotFilling
from environments.templates import Templates
from environments.tracker import Known


def transcript(environment: SlotFilling, policy: Policy, key: jax.Array) -> list[str]:
    """Lines "user: …" (with what was heard, where it differs) and "system: …", then the outcome."""
    speak = Templates(environment.domain)
    start, *keys = jax.random.split(key, environment.max_turns + 1)
    state, observation = jax.jit(environment.reset)(start)
    step = jax.jit(environment.step)
    lines, total = [_user(speak, state)], 0.0
    for key in keys:
        action = int(policy(observation, key))
        state, observation, reward, done, info = step(state, action, key)
        total += float(reward)
        lines.append("system: " + sentence(environment, speak, action, state.known))
        if done:
            break
        lines.append(_user(speak, state))
    outcome = "success" if info["success"] else "hung up" if info["hung_up"] else "failure"
    return [*lines, f"({outcome}, return {total:g})"]


def sentence(environment: SlotFilling, speak: Templates, action: int, known: Known) -> str:
    """The words of a system's act; known: after it."""
    kind, of = int(environment.actions.kinds[action]), int(environment.actions.of[action])
    row = int(known.row)
    if kind == BOOK and not known.accepted:
        row = int(environment.tracker.best_row(known.belief))
    return speak.system(kind, of, values=np.asarray(known.proposed), row=row)


def _user(speak: Templates, state: tuple) -> str:
    said, heard = speak.user(state.user.said), speak.user(state.known.last)
    return f"user: {said}" + ("" if said == heard else f"   [heard: {heard}]")
