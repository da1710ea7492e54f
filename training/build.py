"""A config section -> one object: `type` names the file, the other keys are constructor arguments.

No registry: `dict(type="attention_lstm", width=384)` opens models/attention_lstm.py and takes the
class AttentionLSTM. A typo is an error naming the section, the bad key and the closest good one.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import inspect
import pathlib
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

SECTIONS = {"models": "model", "tasks": "task", "data": "data", "evaluators": "evals"}


class ConfigError(ValueError):
    """A config section that does not fit its constructor."""


def construct(folder: str, section: Mapping, *, where: str = "", **extra: Any) -> Any:
    """Calls the class that `section` names. Raises ConfigError for unknown, missing or wrong keys.

    extra: further arguments that do not come from the config. where: e.g. "config.model".
    """
    where = where or f"config.{SECTIONS.get(folder, folder)}"
    made = maker(folder, section, where=where, **extra)
    _check_required(made.func, made.keywords, where)
    return made()


def maker(folder: str, section: Mapping, *, where: str = "", **extra: Any) -> functools.partial:
    """Like `construct`, but the call is left to whoever has the remaining arguments (rngs)."""
    where = where or f"config.{SECTIONS.get(folder, folder)}"
    values = _plain(section)
    name = values.pop("type", None)
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{where}: needs `type`, one of {_known(folder)}.")
    cls = find_class(folder, name, where)
    for key, value in values.items():
        if isinstance(value, dict) and "type" in value:
            values[key] = maker(folder, value, where=f"{where}.{key}")
    return functools.partial(cls, **check(cls, values, where), **extra)


def call(fn: Callable, section: Mapping, *, where: str, **extra: Any) -> Any:
    """`fn(**section, **extra)` after the same checks: make_optimizer with config.optim."""
    values = check(fn, _plain(section), where)
    _check_required(fn, {**values, **extra}, where)
    return fn(**values, **extra)


def explain_flags(argv: list[str], error: Exception) -> str:
    """A sentence for a `--config.a.b=value` that the config does not take, with the nearest key."""
    file = next((a.split("=", 1)[1] for a in argv if a.startswith("--config=")), "")
    path, _, arg = file.partition(":")
    name = path.removesuffix(".py").replace("/", ".")
    try:
        known = _keys(importlib.import_module(name).get_config(arg).to_dict(), "config")
    except ModuleNotFoundError:
        return f"--config={file}: there is no such file."
    except Exception:
        return str(error)
    for given in (a[2:].split("=", 1)[0] for a in argv if a.startswith("--config.")):
        if given not in known:
            close = difflib.get_close_matches(given, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else "."
            return f"{given} is not a key of {path}{hint}"
        if repr(given.split(".")[-1]) in str(error) or given in str(error):
            return f"{given} has the wrong type: {path} has {known[given]!r}."
    return str(error)


def override(config: Any, key: str, text: str) -> None:
    """Sets `data.path` and the like in a ConfigDict from text; ConfigError with the nearest key."""
    known = _keys(config.to_dict(), "config")
    if f"config.{key}" not in known:
        close = difflib.get_close_matches(f"config.{key}", known, n=1)
        raise ConfigError(
            f"config.{key} is unknown" + (f"; did you mean {close[0]}?" if close else ".")
        )
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    old = known[f"config.{key}"]
    ok, value = (True, text) if isinstance(old, str) else _fit(value, type(old))
    if not ok:
        raise ConfigError(f"config.{key}={text}: expected {type(old).__name__}, as in {old!r}.")
    config.update_from_flattened_dict({key: value})


def _keys(tree: Mapping, prefix: str) -> dict[str, Any]:
    """{"config.a.b": value} of a nested dict, sections included."""
    out = {}
    for key, value in tree.items():
        out[f"{prefix}.{key}"] = value
        if isinstance(value, dict):
            out |= _keys(value, f"{prefix}.{key}")
    return out


def sharding_rules(folder: str, section: Mapping) -> tuple:
    """The `SHARDING` tables of a section's file and its sub-sections', inner ones first."""
    values = _plain(section)
    inner = [v for v in values.values() if isinstance(v, dict) and "type" in v]
    found = tuple(rule for v in inner for rule in sharding_rules(folder, v))
    return found + tuple(
        getattr(importlib.import_module(f"{folder}.{values['type']}"), "SHARDING", ())
    )


def find_class(folder: str, name: str, where: str) -> type:
    """The class of folder/name.py whose lower-case name is `name` without underscores."""
    root = pathlib.Path(importlib.import_module(folder).__path__[0])
    if not (root / f"{name}.py").is_file():
        close = difflib.get_close_matches(name, _files(folder), n=1)
        hint = f'; did you mean "{close[0]}"?' if close else ""
        raise ConfigError(f'{where}: unknown type "{name}"{hint} ({folder}/ has {_known(folder)}.)')
    module = importlib.import_module(f"{folder}.{name}")
    for attribute, value in vars(module).items():
        if attribute.lower() == name.replace("_", "") and inspect.isclass(value):
            return value
    raise ConfigError(f'{where}: {folder}/{name}.py has no class for type "{name}".')


def check(fn: Callable, values: dict[str, Any], where: str) -> dict[str, Any]:
    """Values whose names and types fit `fn`; lists become tuples (and back) where annotated."""
    known = parameters(fn)
    names = [n for n in known if n != "self"]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in known.values())
    hints = _hints(fn)
    out = {}
    for key, value in values.items():
        if key not in known and not open_ended:
            close = difflib.get_close_matches(key, names, n=1)
            hint = f'; did you mean "{close[0]}"?' if close else ""
            raise ConfigError(
                f'{where}: unknown key "{key}"{hint} ({_origin(fn)} takes {", ".join(names)}.)'
            )
        hint = hints.get(key, Any)
        if hint is Any and key in known and known[key].default not in (None, inspect._empty):
            hint = type(known[key].default)
        ok, out[key] = _fit(value, hint)
        if not ok:
            raise ConfigError(
                f"{where}.{key}: expected {_said(hint)}, got {value!r} ({type(value).__name__}); "
                f"see {_origin(fn)}."
            )
    return out


def _fit(value: Any, hint: Any) -> tuple[bool, Any]:
    """Whether a config value may stand for the annotation, and the value to pass."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        tried = [_fit(value, h) for h in typing.get_args(hint)]
        return next((t for t in tried if t[0]), (False, value))
    if origin is typing.Literal:
        return value in typing.get_args(hint), value
    kind = origin or hint
    if kind in (tuple, list):
        return (True, kind(value)) if isinstance(value, (tuple, list)) else (False, value)
    if kind is bool:
        return isinstance(value, bool), value
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool), value
    if kind is float:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
        return fits, float(value) if fits else value
    if kind in (str, dict, types.NoneType):
        return isinstance(value, kind), value
    # Other annotations (Sequence, Callable, a class) are not the config's to judge, except that a
    # plain number or word can never stand for a sub-section.
    return not (kind is functools.partial and not callable(value)), value


def _check_required(fn: Callable, given: Mapping, where: str) -> None:
    missing = [
        name
        for name, p in parameters(fn).items()
        if p.default is p.empty
        and name != "self"
        and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        and name not in given
    ]
    if missing:
        raise ConfigError(f"{where}: missing {', '.join(missing)} (required by {_origin(fn)}).")


def _makers(fn: Callable) -> list[Callable]:
    """The function itself, or a class's constructor and those it hands its **keywords on to."""
    if not inspect.isclass(fn):
        return [fn]
    found = []
    for cls in fn.__mro__[:-1]:
        if "__init__" in vars(cls):
            found.append(cls.__init__)
            own = inspect.signature(cls.__init__).parameters.values()
            if all(p.kind is not p.VAR_KEYWORD for p in own):
                break
    return found


def parameters(fn: Callable) -> dict[str, inspect.Parameter]:
    """What a call takes; a class's are its constructors', which a metaclass (Flax's) may hide."""
    found: dict[str, inspect.Parameter] = {}
    for one in _makers(fn):
        found = {k: p for k, p in found.items() if p.kind is not p.VAR_KEYWORD}
        found = {**inspect.signature(one).parameters, **found}
    return found


def _plain(section: Any) -> dict[str, Any]:
    return section.to_dict() if hasattr(section, "to_dict") else dict(section)


def _hints(fn: Callable) -> dict[str, Any]:
    try:
        return {k: v for f in _makers(fn)[::-1] for k, v in typing.get_type_hints(f).items()}
    except NameError:  # a name imported only for type checkers: judge by the defaults instead
        return {}


def _origin(fn: Callable) -> str:
    return f"{fn.__module__.replace('.', '/')}.py {fn.__name__}"


def _said(hint: Any) -> str:
    return getattr(hint, "__name__", str(hint)) if typing.get_origin(hint) is None else str(hint)


def _files(folder: str) -> list[str]:
    root = pathlib.Path(importlib.import_module(folder).__path__[0])
    return sorted(p.stem for p in root.glob("*.py") if not p.stem.startswith("_"))


def _known(folder: str) -> str:
    return ", ".join(_files(folder))
