"""Saving and restoring a run: Orbax underneath, promises on top.

Asynchronous, keeps the last k and the best; restores on any mesh; a torn or corrupted checkpoint is
found by its checksums, named, set aside, and the one before it is used. Guards keep a run from
being resumed under another model.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import math
import os
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, LatestN

from training.integrity import place, verify, with_checksums
from training.state import TrainState

log = logging.getLogger("capax")
MIB = 2**20


class CheckpointError(ValueError):
    """A checkpoint could not be written or read; the message names it and what to do."""


class Checkpointer:
    """The checkpoints of one run in `workdir/checkpoints`.

    keep: newest ones to keep; best: metric whose best value is kept besides ("" = none); best_mode:
    "max" or "min". `every` is only checked here: the caller's hook uses it. read_only: evaluation.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        every: int = 1_000,
        keep: int = 3,
        best: str = "",
        best_mode: str = "max",
        read_only: bool = False,
    ):
        if every < 1 or keep < 1 or best_mode not in ("max", "min"):
            raise ValueError(
                f"checkpoint.every={every} and checkpoint.keep={keep} must be at least 1, and "
                f'checkpoint.best_mode="{best_mode}" one of max, min.'
            )
        self.folder = pathlib.Path(workdir).absolute() / "checkpoints"
        self._best = _Best(self.folder, best, best_mode)
        if read_only and not self.folder.is_dir():
            raise CheckpointError(f"{self.folder} does not exist: no run was trained there.")
        handlers = {k: ocp.StandardCheckpointHandler() for k in ("model", "optimizer")}
        handlers["scores"] = ocp.JsonCheckpointHandler()
        with _quiet():
            options = ocp.CheckpointManagerOptions(
                preservation_policy=AnyPreservationPolicy([LatestN(keep), self._best]),
                cleanup_tmp_directories=not read_only,
                read_only=read_only,
                create=not read_only,
            )
            self._manager = ocp.CheckpointManager(
                self.folder, item_handlers=handlers, options=options
            )

    def steps(self) -> list[int]:
        """Steps of the finished checkpoints, oldest first."""
        return _steps(self.folder)

    def last_good(self) -> str | None:
        """Path of the newest finished checkpoint: what to name in an error."""
        with contextlib.suppress(Exception):  # a failed save is reported by `save` itself
            self._manager.wait_until_finished()
        steps = self.steps()
        return str(self.folder / str(steps[-1])) if steps else None

    def save(
        self, step: int, state: TrainState, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Starts writing; returns when the state may be donated. Raises CheckpointError.

        metrics: finite values at this step, among them `best` if the step was evaluated.
        """
        if step in self.steps():
            return
        if int(state.step) != step:
            raise CheckpointError(
                f"step {step}: the state is at step {int(state.step)}, because its loss was NaN "
                f"or Inf since; it is not saved. The last good checkpoint is {self.last_good()}."
            )
        items = {k: ocp.args.StandardSave(v) for k, v in with_checksums(_items(state)).items()}
        scores = {k: float(v) for k, v in (metrics or {}).items()}
        self._best.scores[step] = scores
        with self._errors(f"could not save step {step}"), _quiet():
            args = ocp.args.Composite(**items, scores=ocp.args.JsonSave(scores))
            self._manager.save(step, args=args, force=True)

    def wait(self) -> None:
        """Blocks until what was saved is on disk. Raises CheckpointError."""
        with self._errors("could not finish the newest checkpoint"):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then frees the writing threads."""
        self.wait()
        self._manager.close()

    def restore(self, target: TrainState, step: int | str = "latest") -> tuple[TrainState, int]:
        """The state of a step, "latest" or "best", with the target's shapes and shardings.

        With "latest", one that cannot be read is set aside with a warning and the one before it is
        tried. Raises CheckpointError when none is left, or the one asked for is damaged.
        """
        candidates = self._candidates(step)
        for number in candidates:
            try:
                return self._read(target, number), number
            except Exception as error:  # tensorstore, json, zstd, os: any of them may stumble
                why = f"checkpoint {self.folder / str(number)} cannot be read ({_brief(error)})"
                if number == candidates[-1]:
                    raise CheckpointError(
                        f"{why}; no other is left. Start again in a new --workdir, or put a good "
                        "copy of that folder back."
                    ) from error
                log.warning("%s; using the one before it. It is kept as %s.damaged.", why, number)
                self._set_aside(number)
        raise AssertionError("unreachable")

    def restore_or_init(
        self,
        target: TrainState,
        init: Callable[[], TrainState],
        *,
        origin: str = "random weights",
    ) -> tuple[TrainState, str]:
        """The newest good state, or a new one, and a sentence that says where it came from."""
        self._check_space(target)
        if not self.steps():
            return init(), f"Starting at step 0 from {origin}; no checkpoint in {self.folder}."
        state, step = self.restore(target)
        return state, f"Resuming at step {step} from {self.folder / str(step)}."

    def _candidates(self, step: int | str) -> list[int]:
        self.wait()
        steps = self.steps()
        if not steps:
            raise CheckpointError(f"{self.folder} holds no checkpoint: train with --workdir first.")
        if step == "latest":
            return steps[::-1]
        if step == "best":
            return [self._best.of(steps)]
        if step not in steps:
            raise CheckpointError(f"{self.folder} has no step {step}; it has {steps}.")
        return [int(step)]

    def _read(self, target: TrainState, step: int) -> TrainState:
        wanted = jax.eval_shape(with_checksums, _items(target))
        wanted = place(wanted, _items(target))
        args = {k: ocp.args.StandardRestore(v) for k, v in wanted.items()}
        with _quiet():
            found = dict(self._manager.restore(step, args=ocp.args.Composite(**args)).items())
        verify(found)
        return TrainState(**found["model"], **found["optimizer"])

    def variables(self, step: int | str = "best") -> dict[str, Any]:
        """{"params", "stats", "frozen", "ema", "step"} on one device, without knowing the model."""
        (number,) = self._candidates(step)[:1]
        home = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        try:
            with _quiet():
                target = jax.tree.map(
                    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=home),
                    self._manager.item_metadata(number)["model"].tree,
                )
                args = ocp.args.Composite(model=ocp.args.StandardRestore(target))
                found = {"model": self._manager.restore(number, args=args)["model"]}
            verify(found)
        except Exception as error:
            raise CheckpointError(
                f"checkpoint {self.folder / str(number)} cannot be read ({_brief(error)}); "
                f"this run has steps {self.steps()}."
            ) from error
        return found["model"]

    def _set_aside(self, step: int) -> None:
        """Out of Orbax's sight, so that the step can be saved anew; kept for whoever wonders."""
        if jax.process_index() == 0:
            aside = self.folder / f"{step}.damaged"
            shutil.rmtree(aside, ignore_errors=True)
            (self.folder / str(step)).rename(aside)
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices(f"set aside {step}")
        self._manager.reload()

    def _check_space(self, target: TrainState) -> None:
        need = 2 * sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(target))
        free = shutil.disk_usage(self.folder).free
        if free < need:
            raise CheckpointError(
                f"{self.folder}: {free // MIB} MiB are free, but two checkpoints take "
                f"{-(-need // MIB)} MiB; free some space or choose another --workdir."
            )

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._manager.reload()
            raise CheckpointError(
                f"{what} in {self.folder} ({_brief(error)}). The last good checkpoint is "
                f"{self.last_good()}; free some space there and run the same command to go on."
            ) from error


def _steps(folder: pathlib.Path) -> list[int]:
    """Orbax gives a folder its plain number only when everything in it is written."""
    return sorted(int(p.name) for p in folder.glob("*") if p.name.isdigit())


class _Best:
    """Orbax preservation policy for the best step. A torn score file only loses that score."""

    def __init__(self, folder: pathlib.Path, metric: str, mode: str):
        self._metric, self._sign = metric, 1.0 if mode == "max" else -1.0
        self.scores = {step: self._load(folder / str(step)) for step in _steps(folder)}

    def of(self, steps: Sequence[int]) -> int:
        """The best of these steps; the newest where none has the metric."""
        return max(steps, key=lambda step: (self._value(step), step))

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        best = self.of([c.step for c in checkpoints]) if checkpoints else None
        return [c.step == best for c in checkpoints]

    def _value(self, step: int) -> float:
        value = self._sign * self.scores.get(step, {}).get(self._metric, math.nan)
        return -math.inf if math.isnan(value) else value

    @staticmethod
    def _load(folder: pathlib.Path) -> dict[str, float]:
        try:
            return dict(json.loads((folder / "scores" / "metadata").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return {}


def _items(state: Any) -> dict[str, dict[str, Any]]:
    """Two parts, so that serving reads the model without the optimizer."""
    model = ("step", "params", "stats", "frozen", "ema")
    return {
        "model": {k: getattr(state, k) for k in model},
        "optimizer": {"opt_state": state.opt_state},
    }


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:160] + " …"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What Orbax logs about a damaged file, and the reads it leaves unfinished: we report it."""
    logger, hook = logging.getLogger("absl"), sys.unraisablehook
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    sys.unraisablehook = lambda _: None
    try:
        yield
    except Exception as error:
        error.__traceback__ = None  # frees the unfinished reads while they are still hushed
        gc.collect()
        raise
    finally:
        logger.setLevel(before)
        sys.unraisablehook = hook
