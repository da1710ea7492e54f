"""What may not change between the first start of a run and its resumption, checked with a sentence.

The config is saved beside the checkpoints; a changed model or optimizer section stops the run and
shows the difference. Other facts, such as the vocabulary's hash, are kept by name.
"""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any


class GuardError(ValueError):
    """The run in this workdir was started with something else."""


def guard_config(
    workdir: str | os.PathLike,
    config: Mapping[str, Any],
    sections: Sequence[str] = ("model", "task", "optim"),
) -> list[str]:
    """Saves `config.json` at the first start; on resume returns the differences as lines.

    Raises GuardError when one of them lies in `sections`. Until a checkpoint exists anything goes.
    """
    path = pathlib.Path(workdir) / "config.json"
    new = _plain(config.to_dict() if hasattr(config, "to_dict") else config)
    old = _read(path)
    changed = _differences(old, new) if old and _has_checkpoint(workdir) else {}
    lines = [f"{key}: {was} → {now}" for key, (was, now) in changed.items()]
    guarded = [
        line for line, key in zip(lines, changed, strict=True) if key.split(".")[0] in sections
    ]
    if guarded:
        raise GuardError(
            f"{path} was saved with other values of {', '.join(sections)}; put them back, or start "
            "a new run in another --workdir:\n  " + "\n  ".join(guarded)
        )
    _write(path, new)
    return lines


def guard_value(workdir: str | os.PathLike, name: str, value: str | int, hint: str = "") -> None:
    """Keeps `name` = value (the vocabulary's hash, say) and raises GuardError if it changes."""
    path = pathlib.Path(workdir) / "identity.json"
    known = _read(path)
    if known.get(name, value) != value and _has_checkpoint(workdir):
        raise GuardError(
            f"{name}: this run was trained with {known[name]}, but now it is {value} ({path}); "
            + (hint or "put the old one back, or start a new run in another --workdir.")
        )
    _write(path, {**known, name: value})


def read_value(workdir: str | os.PathLike, name: str) -> str | int:
    """What `guard_value` keeps under this name; "" where nothing is kept."""
    return _read(pathlib.Path(workdir) / "identity.json").get(name, "")


def read_config(workdir: str | os.PathLike) -> dict[str, Any]:
    """The config that a run was trained with. Raises GuardError when there is none."""
    path = pathlib.Path(workdir) / "config.json"
    if not path.is_file():
        raise GuardError(f"{path} does not exist: give the --workdir of a run that was trained.")
    return _read(path)


def _has_checkpoint(workdir: str | os.PathLike) -> bool:
    return any(p.name.isdigit() for p in (pathlib.Path(workdir) / "checkpoints").glob("*"))


def _plain(value: Any) -> Any:
    """As JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(value))


def _differences(old: Any, new: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        out = {}
        for key in [*old, *(k for k in new if k not in old)]:
            inner = f"{prefix}.{key}" if prefix else key
            out |= _differences(old.get(key, "(absent)"), new.get(key, "(absent)"), inner)
        return out
    return {} if old == new else {prefix: (json.dumps(old), json.dumps(new))}


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError:
        raise GuardError(
            f"{path} is not readable JSON; restore it or use a new --workdir."
        ) from None


def _write(path: pathlib.Path, value: dict[str, Any]) -> None:
    """Atomically, so that a kill cannot leave half a file."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)
