"""Talk to a dialogue policy in the terminal.

    python -m environments.chat --workdir=runs/dialogue
    python -m environments.chat --policy=hand --domain=camrest676 --path=.../camrest676
    python -m environments.chat --policy=hand --watch=3        # the simulated user talks instead
    python -m environments.chat --policy=hand --measure=2000   # success and return

An empty line says nothing; the end of input (Ctrl-D) ends the talk.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from environments import dialogue_acts as acts
from environments.hand_policy import HandPolicy
from environments.rollout import Policy, play
from environments.slot_filling import SlotFilling
from environments.templates import Context, Templates
from environments.transcript import sentence, transcript
from environments.value_iteration import Optimum, Rules


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    flags = _flags(arguments)
    try:
        environment, policy = _chosen(flags)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    for i in range(flags.watch):
        key = jax.random.fold_in(jax.random.key(flags.seed), i)
        print("\n".join(transcript(environment, policy, key)), end="\n\n")
    if flags.measure:
        print(measured(environment, policy, flags.measure, flags.seed))
    elif not flags.watch:
        talk(environment, policy)
    return 0


def talk(environment: SlotFilling, policy: Policy) -> None:
    """Reads lines until the system has booked, or the input or the system's patience ends."""
    speak, tracker = Templates(environment.domain), environment.tracker
    hear, act = jax.jit(tracker.hear), jax.jit(tracker.act)
    known, context, key = tracker.start(), Context(), jax.random.key(0)
    print(f"system: Hello! I can find you a {environment.domain.noun}. What would you like?")
    for turn in range(environment.max_turns):
        try:
            text = input("you: ")
        except (EOFError, KeyboardInterrupt):
            print("\nGoodbye.")
            return
        known = hear(known, jax.tree.map(jnp.asarray, speak.parse_user(text, context)))
        observation = tracker.observe(known, jnp.array(0.0), turn / environment.max_turns)
        action = int(policy(observation, jax.random.fold_in(key, turn)))
        known = act(known, action)
        print("system: " + sentence(environment, speak, action, known))
        kind, of = int(environment.actions.kinds[action]), int(environment.actions.of[action])
        if kind == acts.BOOK:
            return
        doubtful = int(np.asarray(known.belief).max(-1).argmin())
        if kind != acts.REPEAT:
            context = Context(kind, doubtful if kind == acts.OFFER else of)
    print("system: I am sorry that I could not help you. Goodbye.")


def measured(environment: SlotFilling, policy: Policy, dialogues: int, seed: int) -> str:
    """A line: success, return and turns with their 95 % intervals, and the optimum if known."""
    play_all = jax.jit(lambda key: play(environment, policy, key, dialogues))
    found = jax.device_get(play_all(jax.random.key(seed)))
    parts = [
        f"{name} {found[name].mean():.3f} ± {1.96 * found[name].std() / dialogues**0.5:.3f}"
        for name in ("success", "return", "turns")
    ]
    with contextlib.suppress(ValueError):  # most are too large for it
        parts.append(f"the best return possible {Optimum(Rules.of(environment)).value:.3f}")
    return ", ".join(parts)


def _chosen(flags: argparse.Namespace) -> tuple[SlotFilling, Policy]:
    if flags.policy == "trained":
        if not flags.workdir:
            raise ValueError("--workdir=RUN is needed, or --policy=hand.")
        from environments import trained_policy  # needs what trains, the rest does not

        return trained_policy.load(flags.workdir, path=flags.path, which=flags.checkpoint)
    environment = SlotFilling(domain=flags.domain, path=flags.path, noise=flags.noise)
    actions = environment.actions
    return environment, HandPolicy(actions.slots, actions.facts)


def _flags(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="environments.chat", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--workdir", default="", help="folder of a trained dialogue run")
    parser.add_argument("--checkpoint", default="best", help="best | latest | STEP (best)")
    parser.add_argument("--policy", default="trained", choices=("trained", "hand"))
    parser.add_argument("--domain", default="toy", help="with --policy=hand: toy, camrest676, …")
    parser.add_argument("--path", default="", help="the domain's file or folder, if not the run's")
    parser.add_argument("--noise", type=float, default=0.05, help="of hearing, 0 to 1 (0.05)")
    parser.add_argument("--watch", type=int, default=0, metavar="N", help="N simulated dialogues")
    parser.add_argument("--measure", type=int, default=0, metavar="N", help="of N dialogues")
    parser.add_argument("--seed", type=int, default=0, help="of --watch and --measure")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
