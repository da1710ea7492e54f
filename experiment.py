"""Config → experiment: data, model, task, optimizer, mesh and evaluators, constructed and joined.

The one place that sees a whole config; `train.py`, the command lines and notebooks share it.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

import task_parts
from data.tokenizer import Tokenizer
from evaluators.embedded import Embedded
from models import lora, pretrained
from models.ensemble import Ensemble, check_member
from models.functional import accepted, functional
from tasks import maml
from training import build as sections
from training import sharding
from training.checkpoint import Checkpointer
from training.guard import guard_value, read_config
from training.optimizer import make_optimizer
from training.setup import setup
from training.state import flatten
from training.step import make_train_step
from training.warm_start import warm_start


@dataclasses.dataclass
class Build:
    """One experiment, ready for `fit`; nothing below this object sees the config."""

    config: Any
    data: Any
    task: Any
    tx: Any
    train_step: Any
    mesh: Any
    rules: tuple
    pretrained: dict  # {"params", "stats"} read from a weights file, or {}
    evals: dict  # name → evaluator

    def init(self) -> Any:
        """The state at step 0."""
        kw = dict(mesh=self.mesh, rules=self.rules, ema=self.config.step.ema)
        kw |= dict(seed=self.config.seed, pretrained=self.loaded())
        return sharding.init_state(self.task, self.tx, **kw)

    def loaded(self) -> dict:
        """What replaces random weights at step 0, by path; a trained run outdoes a weights file."""
        return flatten(self.pretrained) | self._from_run() | flatten(self.task.loaded())

    def _from_run(self) -> dict:
        """What config.init_from takes over from a trained run."""
        start = self.config.get("init_from", {})
        if not start.get("workdir"):
            return {}
        expected = jax.eval_shape(self.task.init, jax.random.key(0))
        run = dict(expected=dict(zip(("params", "stats"), expected, strict=True)))
        if (words := self.data.tokenizer) is not None:
            run |= dict(vocabulary=(words.hash, len(words)))
        return sections.call(warm_start, start, where="config.init_from", **run)

    def abstract(self) -> Any:
        """Its shapes and shardings, without a byte of it."""
        kw = dict(mesh=self.mesh, rules=self.rules, ema=self.config.step.ema)
        return sharding.abstract_state(self.task, self.tx, **kw)

    @property
    def origin(self) -> str:
        """Where the values of step 0 come from, in words."""
        path = self.config.model.get("encoder", {}).get("weights")
        if run := self.config.get("init_from", {}).get("workdir"):
            return f"the run {run}, the rest random"
        return f"random weights, the encoder's from {path}" if self.pretrained else "random weights"

    def keep_vocabulary(self, workdir: Any) -> None:
        """Saves it beside the run. Raises GuardError where the run began with another."""
        if self.data.tokenizer is not None:
            guard_value(workdir, "vocabulary", self.data.tokenizer.hash)
            self.data.tokenizer.save(workdir / "vocabulary.json")

    def batches(self, start: int) -> Any:
        host = dict(process=jax.process_index(), processes=jax.process_count())
        return self.data.batches("train", start=start, seed=self.config.seed, **host)


def build(config: Any, *, data: Any = None, mesh: Any = None, weights: bool = True) -> Build:
    """Constructs everything that `config` names; ValueError where a section does not fit.

    weights=False leaves pretrained files unread: a checkpoint, or nothing at all, will follow.
    """
    c = config.copy_and_resolve_references().unlock()
    mesh = mesh or sharding.make_mesh(**c.mesh)
    sharding.check_batch_size(c.data.batch_size, mesh)
    make = functools.partial(sections.maker, "models", where="config.model.encoder")
    loaded, model_section = pretrained.split(c.model.to_dict(), make, read=weights)
    if loaded:
        print(loaded.says)
        c.model.encoder.update(loaded.settings | c.model.encoder.to_dict())  # saved with the run
        if loaded.crop < 1 and not c.data.get("image_crop"):
            c.data.image_crop = loaded.crop
    started = loaded or c.get("init_from", {}).get("workdir")
    if weights and not started and c.task.get("frozen") and "weights" in c.model.get("encoder", {}):
        print("No weights: the encoder starts at random, so it is trained too.")
        c.task.frozen = ()
        if "cached_views" in c.data:
            c.task.train_stats, c.data.cached_views = True, 0
    data = data or sections.construct("data", c.data)
    environment = task_parts.environment(c.task)
    adapters = model_section.pop("lora", None)
    made = sections.maker("models", model_section)
    facts = accepted(made, data.facts | task_parts.sizes(environment))
    if "ways" in facts and "ways" in sections.parameters(made.func):
        c.model.ways = facts["ways"]  # saved with the run: other data may have other classes
    model = functional(lambda rngs: made(**facts, rngs=rngs))
    if adapters:
        model = sections.call(lora.LoRA, adapters, where="config.model.lora", base=model)
    given = task_parts.rewards(c.task) | environment
    given |= task_parts.teachers(c.task, data, mesh) if weights else {}
    section = {k: v for k, v in c.task.to_dict().items() if k not in (*given, "teachers")}
    task = sections.construct("tasks", section, model=model, **given)
    run = dict(where="config.optim", total_steps=c.total_steps)
    tx, schedule = sections.call(make_optimizer, c.optim, **run)
    _check_updates(c, task)
    run = dict(task=task, tx=tx, seed=c.seed, mesh=mesh, schedule=schedule)
    train_step = sections.call(make_train_step, c.step, where="config.step", **run)
    evals = evaluators(task, c.evals, where="config.evals.{}", data=data, mesh=mesh)
    found = loaded.variables if loaded else {}
    rules = lora.SHARDING + maml.SHARDING + sections.sharding_rules("models", model_section)
    return Build(c, data, task, tx, train_step, mesh, rules, found, evals)


def _check_updates(c: Any, task: Any) -> None:
    """Raises ConfigError where step.updates_per_call would jump over something that is due."""
    n = c.step.get("updates_per_call", 1)
    due = {"total_steps": c.total_steps, "checkpoint.every": c.checkpoint.every}
    due |= {f"evals.{name}.every": section.get("every", 0) for name, section in c.evals.items()}
    for key, value in due.items():
        if value % n:
            raise sections.ConfigError(
                f"config.{key}={value} is not a multiple of step.updates_per_call={n}; "
                f"nearest {sharding.nearest(value, n)}."
            )
    if n > 1 and task.prepares:
        raise sections.ConfigError(
            f"config.step.updates_per_call={n}: {type(task).__name__} prepares every batch, so "
            "only one update fits into a call; set it to 1."
        )


def evaluators(task: Any, found: Mapping[str, Any], *, where: str, **run: Any) -> dict[str, Any]:
    """The evaluators of named sections, which embed a row once for all of them.

    where: of a section, in messages; {} stands for its name.
    """
    run["embed"] = Embedded.of(task.predictors().get("embed"))
    return {k: evaluator(task, v, where=where.format(k), **run) for k, v in found.items()}


def evaluator(task: Any, section: Any, *, where: str, **run: Any) -> Any:
    """The evaluator that a section names, given what it wants of the task. Raises ConfigError."""
    cls = sections.find_class("evaluators", section["type"], where)
    predictors = task.predictors()
    if cls.wants not in predictors:
        raise sections.ConfigError(
            f'{where}.type="{section["type"]}" needs a task that offers "{cls.wants}"; '
            f"{type(task).__name__} offers {', '.join(predictors)}."
        )
    run |= dict(predict=predictors[cls.wants])
    run |= dict(caution=getattr(task, "caution", None))
    run |= dict(batch_norm=getattr(task, "batch_norm", ""))
    taken = {k: v for k, v in run.items() if k in sections.parameters(cls)}
    return sections.construct("evaluators", section, where=where, **taken)


def restore(
    workdir: Any,
    *,
    checkpoint: str | int = "best",
    overrides: Mapping[str, str] | None = None,
    data: Any = None,
    from_images: bool = False,
    splits: tuple[str, ...] = (),
    evals: bool = True,
) -> tuple[Build, dict, int]:
    """(build, variables, step) of a trained run; overrides: {"data.path": "DIR"} on its config.

    data: instead of the run's own. from_images: without the cache of its encoder's features.
    splits: those that will be read, () = all: the features of others are not computed.
    evals: False leaves the run's own evaluators out, whose splits other data may not have.
    """
    c = ConfigDict(read_config(workdir))  # before setup: a mistyped folder is not made
    workdir = setup(workdir)
    vocabulary = workdir / "vocabulary.json"
    takes = sections.parameters(sections.find_class("data", c.data.type, "config.data"))
    if "tokenizer" in takes and vocabulary.exists():  # other data would give another one
        c.data.tokenizer = str(vocabulary)
    _override(c, overrides)
    if from_images and "cached_views" in c.data:
        c.data.cached_views = 0
    if not evals:
        c.evals = {}
    b = build(c, weights=False, data=data)
    kept = {k: v for k, v in c.checkpoint.items() if k != "every"}
    keeper = Checkpointer(workdir, read_only=True, **kept)
    state, step = keeper.restore(b.abstract(), checkpoint)
    variables = b.task.variables(state)
    b.task.attach(b.data, variables, splits)
    return b, variables, step


def _override(c: ConfigDict, overrides: Mapping[str, str] | None) -> None:
    """Sets {"data.path": "DIR"}, also what the config leaves to the constructor's default."""
    for key, value in (overrides or {}).items():
        section, _, name = key.partition(".")
        if section == "data" and name not in c.data:
            known = sections.parameters(sections.find_class("data", c.data.type, "config.data"))
            if name in known:
                c.data[name] = known[name].default
        sections.override(c, key, value)


def read_experiment(file: str) -> ConfigDict:
    """The values of `configs/NAME.py` or `configs/NAME.py:smoke`. Raises ValueError for others."""
    path, _, argument = file.partition(":")
    spec = importlib.util.spec_from_file_location("experiment_config", path)
    if spec is None or not pathlib.Path(path).is_file():
        raise ValueError(f"--config={file}: there is no such file; name one like configs/NAME.py.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(argument).copy_and_resolve_references().unlock()


def untrained(
    c: ConfigDict, *, overrides: Mapping[str, str] | None = None, data: Any = None
) -> tuple[Build, dict, int]:
    """As `restore`, of an experiment before its first step: baselines that need no training."""
    _override(c, overrides)
    c.evals = {}
    b = build(c, data=data)
    variables = b.task.variables(b.init())
    b.task.attach(b.data, variables)
    return b, variables, 0


def restore_ensemble(
    workdirs: Sequence[Any], *, checkpoint: str | int = "best", **options: Any
) -> tuple[Build, tuple, int]:
    """As `restore`, of several runs that write together: the first one's data, decoded as images.

    checkpoint is the first run's; the others give their best. Raises ValueError where a run has
    another vocabulary or image size than the first.
    """
    b, variables, step = restore(workdirs[0], checkpoint=checkpoint, from_images=True, **options)
    members, everything = [b.task.model], [variables]
    for workdir in workdirs[1:]:
        c = read_config(workdir)
        pair = Tokenizer.load(f"{workdir}/vocabulary.json").hash, b.data.tokenizer.hash
        sizes = c["data"].get("image_size", 0), b.data.image_size
        crops = c["data"].get("image_crop") or 1.0, b.data.image_crop
        same = dict(vocabularies=pair, image_sizes=sizes, image_crops=crops)
        check_member(workdir, workdirs[0], **same)
        other, variables, _ = restore(workdir, data=b.data)
        members.append(other.task.model)
        everything.append(variables)
    b.task.model = Ensemble(members)
    return b, tuple(everything), step
