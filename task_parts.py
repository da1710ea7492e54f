"""What a task is given beside its model: teachers, rewards, an environment.

Each function reads one key of config.task; {} where the config does not have it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from rewards.composite import SUM, Composite, Term
from serving.trained_run import trained
from training import build as sections


def teachers(task: Any, data: Any, mesh: Any) -> dict[str, list]:
    """{"teachers": [(model, variables)]} of the trained runs that config.task names, if it does.

    Raises ValueError where one has another vocabulary or image size than the data.
    """
    if "teachers" not in task:
        return {}
    sections.maker("tasks", task)  # a key that the task does not take is said before any is read
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    found = []
    for run in task.teachers:
        teacher = trained(run)
        if teacher.tokenizer.hash != data.tokenizer.hash:
            raise ValueError(
                f"config.task.teachers: {run} has another vocabulary than the data; set "
                f"data.tokenizer={run}/vocabulary.json, which all teachers must share."
            )
        size = teacher.config["data"].get("image_size", 0)
        if size != data.image_size:
            raise ValueError(
                f"config.task.teachers: {run} was trained with data.image_size={size}, but here it "
                f"is {data.image_size}; make them equal."
            )
        found.append((teacher.model, jax.device_put(teacher.variables, everywhere)))
    return {"teachers": found}


def environment(task: Any) -> dict[str, Any]:
    """{"environment": the one that config.task names}, or nothing."""
    if "environment" not in task:
        return {}
    where = "config.task.environment"
    return {"environment": sections.construct("environments", task.environment, where=where)}


def sizes(given: Mapping[str, Any]) -> dict[str, int]:
    """What a model is made for: an environment's sizes."""
    of = given.get("environment")
    return {k: getattr(of, k) for k in ("observation_size", "num_actions")} if of else {}


def rewards(task: Any) -> dict[str, Composite]:
    """{"rewards": the composite that config.task.rewards names, a section for each term}.

    A section's own keys are its Term's and its reward's; "sum" is about all of them together.
    """
    if "rewards" not in task:
        return {}
    terms, own = {}, [n for n in sections.parameters(Term) if n not in ("self", "reward")]
    for name, section in task.rewards.to_dict().items():
        where = f"config.task.rewards.{name}"
        if name == SUM:
            continue
        if not isinstance(section, Mapping):
            raise sections.ConfigError(f"{where}={section!r}: a reward is a dict(type=...).")
        rest = {k: v for k, v in section.items() if k not in own}
        reward = sections.construct("rewards", rest, where=where, **_run_of(rest, where))
        section = {k: v for k, v in section.items() if k in own}
        terms[name] = sections.call(Term, section, where=where, reward=reward)
    together = task.rewards.to_dict().get(SUM, {})
    where = f"config.task.rewards.{SUM}"
    return {"rewards": sections.call(Composite, together, where=where, terms=terms)}


def _run_of(section: Mapping, where: str) -> dict[str, Any]:
    """{"run": what is in its workdir} of a reward that is a trained model."""
    if not section.get("workdir"):
        return {}
    takes = sections.parameters(sections.find_class("rewards", section["type"], where))
    return {"run": trained(section["workdir"])} if "run" in takes else {}
