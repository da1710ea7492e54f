"""Outer choices (depth, width, vocabulary, optimizer): Optuna proposes, a sweep scores each.

The study is `study.db` in the workdir. A killed one goes on with the choice it was killed in, and
what is proposed is a function of (seed, number of the choice, what was found before).
"""

from __future__ import annotations

import itertools
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from training.space import check_known

Choice = dict[str, Any]


def choose(
    choices: Sequence[tuple[str, Sequence]],
    run: Callable[[int, Choice], Any],
    *,
    own: Mapping[str, Any],
    workdir: pathlib.Path,
    studies: int = 0,
    mode: str = "min",
    seed: int = 0,
) -> list[Any] | None:
    """What `run(number, {key: value})` returned for each choice; None where it once did not.

    A result has a `value` to judge it by, and run gives at once what it found before. The first
    choice is the config's `own`. studies: how many are tried by TPE (Bergstra et al. 2011); 0 or
    enough for all = every combination in order. Raises ValueError where the extra is missing or
    the choices do not fit the config.
    """
    optuna = _optuna()
    options = _options(choices, own)
    every = [dict(zip(options, v, strict=True)) for v in itertools.product(*options.values())]
    first = {key: own[key] for key in options}
    wanted = min(studies or len(every), len(every))
    queue = [first, *(c for c in every if c != first)] if wanted == len(every) else [first]
    study = optuna.create_study(
        storage=f"sqlite:///{workdir / 'study.db'}",
        study_name="choices",
        direction={"min": "minimize", "max": "maximize"}[mode],
        load_if_exists=True,
    )
    spaces = {k: optuna.distributions.CategoricalDistribution(v) for k, v in options.items()}
    found: dict[tuple, Any] = {}
    for number, choice, told in _proposals(optuna, study, spaces, queue, wanted, seed):
        key = tuple(choice.items())
        if key not in found:  # TPE may propose one twice, but it would only train alike
            found[key] = run(number, choice)
        if found[key] is None:
            return None
        if not told:
            value = found[key].value
            lost = dict(state=optuna.trial.TrialState.FAIL)
            study.tell(number, **(lost if math.isnan(value) else dict(values=value)))
    return list(found.values())


def _proposals(
    optuna: Any, study: Any, spaces: dict, queue: list[Choice], wanted: int, seed: int
) -> Iterator[tuple[int, Choice, bool]]:
    """(number, choice, whether the study knows its value), in the order of their numbers."""
    state = optuna.trial.TrialState
    for number in range(wanted):
        known = [t for t in study.trials if t.number == number and t.state != state.WAITING]
        if not known:
            # The sampler has no state of its own, so that a resumed study proposes the same.
            study.sampler = optuna.samplers.TPESampler(seed=seed + number)
            if number < len(queue) and len(study.trials) == number:
                study.enqueue_trial(queue[number])
            known = [study.ask(fixed_distributions=spaces)]
        choice = {key: known[0].params[key] for key in spaces}
        yield number, choice, getattr(known[0], "state", None) in (state.COMPLETE, state.FAIL)


def _options(choices: Sequence[tuple[str, Sequence]], own: Mapping[str, Any]) -> dict[str, list]:
    """{key: values}, which the config must know, the words and numbers it has among them."""
    options = {key: list(values) for key, values in choices}
    for key, values in options.items():
        check_known(key, own, "config.sweep.choices")
        if not all(isinstance(v, (bool, int, float, str)) for v in values):
            raise ValueError(f"config.sweep.choices: {key} may hold numbers and words only.")
        if own[key] not in values:
            raise ValueError(
                f"config.sweep.choices: {key} has {values}, without the config's own "
                f"{own[key]!r}; add it, so that what the others bring can be compared."
            )
    return options


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ValueError(
            "config.sweep.choices needs the extra: pip install -e '.[tune]'."
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
