"""Public weights -> the nested variables of our encoders, and our own weights to a file.

Every tensor of a file must find its place and every variable must be filled, or an error lists
them. Preprocessing, padding and epsilon travel with the weights as arguments of the encoder.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from models import (
    weights_bert,
    weights_efficientnet,
    weights_keras,
    weights_npz,
    weights_static,
    weights_torchvision,
    weights_vit,
)
from models.functional import flatten, functional, unflatten
from models.vit import SIZES, interpolate
from models.weight_files import locate, read, write
from models.weight_layout import Arrays, Layout, Shapes, counted, fit, listed

SOURCES = (weights_torchvision, weights_efficientnet, weights_vit, weights_bert)
SOURCES += (weights_keras, weights_npz, weights_static)
# Arguments that go with the weights: a file sets them where the config has no value of its own.
SETTINGS = ("mean", "std", "channels", "eps", "padding", "stride_on", "count_pad", "image_size")
SETTINGS += ("vocab_size",)
TOLD = ("mean", "std", "channels", "pool", "unit")  # of them, in the line about a published file
# An encoder may be a part of the one that was saved: no head, fewer stages, another output.
PART = ("num_classes", "stages", "output", "pool", "unit", "image_size")
# How an encoder is run, not what it is.
RUN = ("cut", "dtype", "remat", "dropout", "patch_dropout")


class Loaded(NamedTuple):
    """variables: {"params": tree, "stats": tree} of the encoder, float32, without what was skipped.

    settings: arguments of the encoder that go with them. says: one line about the file.
    size: pixels of a side that they were trained on, 0 where nobody knows or of text. crop: the
    central share of a side that their publisher shows them (`data.image_crop`).
    """

    variables: dict[str, Any]
    settings: dict[str, Any]
    says: str
    size: int
    crop: float


def split(
    section: Mapping[str, Any], make: Callable[[Mapping], partial], *, read: bool = True
) -> tuple[Loaded | None, dict[str, Any]]:
    """A model section -> (what its encoder's `weights` file holds, the section to construct).

    make: encoder section -> its constructor. The keys `weights` and `weights_skip` are taken out;
    the settings that go with the file are put in where the section has no value of its own.
    None where no file is named or there is no encoder. Raises ValueError as `load` does.
    """
    if "encoder" not in section:
        return None, dict(section)
    encoder = dict(section["encoder"])
    path, skip = encoder.pop("weights", ""), encoder.pop("weights_skip", ())
    if not path or not read:
        return None, {**section, "encoder": encoder}
    loaded = load(path, make(encoder), skip=skip)
    variables = {name: {"encoder": tree} for name, tree in loaded.variables.items()}
    return loaded._replace(variables=variables), {**section, "encoder": loaded.settings | encoder}


def load(path: str | Path, encoder: partial, *, skip: Sequence[str] = ()) -> Loaded:
    """The variables of `encoder(rngs=)` from a weights file of any known format and publisher.

    skip: regexes of our paths that keep random values ("head/"), or of names to pass over.
    Positions of a ViT are interpolated to its `image_size`. Raises ValueError naming the file and
    the arguments to change, or the tensors without a place and the variables without a tensor.
    """
    file = locate(path)
    arrays, metadata = read(file)
    layout = _saved_by_us(metadata) or _recognise(file, arrays)
    _check_arguments(path, layout, encoder)
    settings = {k: v for k, v in layout.settings.items() if k not in encoder.keywords}
    ours = partial(encoder, **settings)
    saved = partial(encoder, **layout.settings | layout.arguments)
    room, due = _shapes(ours)
    whole = due if _arguments(ours) == _arguments(saved) else _shapes(saved)[1]
    # The whole file must fit the encoder that was saved; ours takes its part of that.
    fitted = fit(arrays, layout, whole)
    unknown = [k for k in fitted.unknown if not _matches(skip, k.split(" ")[0])]
    skipped = [k for k in due if _matches(skip, k)]
    if idle := [regex for regex in skip if not _matches((regex,), *due, *arrays)]:
        raise ValueError(f"model.encoder.weights_skip={idle[0]!r} fits no variable and no tensor")
    found = {k: v for k, v in fitted.found.items() if k in due and k not in skipped}
    _resize_positions(found, due)
    missing = _differences(found, {k: due[k] for k in due if k not in skipped})
    missing += [k for k in fitted.missing if k not in missing]
    if missing or unknown:
        raise ValueError(_misfit(path, layout, encoder, missing, unknown))
    unused = [*fitted.passed, *(k for k in whole if k not in found)]
    unused += [k.split(" ")[0] for k in fitted.unknown]
    variables = unflatten({f"{room[k]}/{k}": found[k] for k in due if k in found})
    variables = {"params": {}, "stats": {}} | variables
    return Loaded(
        variables, settings, _said(path, layout, unused, skipped), layout.size, layout.crop
    )


def save(
    path: str | Path,
    variables: Mapping[str, Any],
    encoder: partial,
    *,
    size: int = 0,
    crop: float = 1.0,
) -> None:
    """Writes the variables of `encoder(rngs=)` as safetensors, all its arguments as metadata.

    size: pixels of a side that it was trained on; crop: the central share of a photograph's side
    that they show. `load` gives the same bits back. Raises ValueError where the variables are
    another encoder's.
    """
    leaves = {k.split("/", 1)[1]: np.asarray(v) for k, v in flatten(variables).items()}
    _, due = _shapes(encoder)
    wrong = _differences(leaves, due) + [k for k in leaves if k not in due]
    if wrong:
        raise ValueError(f"save {path}: the variables are another encoder's: {listed(wrong)}")
    for low in [k for k in leaves if k.startswith("lower/")]:  # a file knows no cut
        high = low.replace("lower/", "blocks/", 1)
        leaves[high] = np.concatenate([leaves.pop(low), leaves[high]])
    about = {"type": _kind(encoder), "arguments": _arguments(encoder)}
    about |= {"size": size, "crop": crop}
    write(path, leaves, {"capax": json.dumps(about)})


def _saved_by_us(metadata: Mapping[str, str]) -> Layout | None:
    if "capax" not in metadata:
        return None
    about = json.loads(metadata["capax"])
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in about["arguments"].items()}

    def place(name: str, array: np.ndarray) -> dict[str, np.ndarray]:
        if not re.match(r"blocks/\D", name):
            return {name: array}
        return {name.replace("blocks", f"blocks@{i}", 1): row for i, row in enumerate(array)}

    return Layout(
        says=f"a {about['type']} saved by Capax",
        kind=about["type"],
        arguments={k: v for k, v in given.items() if k not in (*SETTINGS, *RUN)},
        settings={k: v for k, v in given.items() if k in SETTINGS},
        place=place,
        size=about["size"],
        crop=about.get("crop", 1.0),
    )


def _recognise(path: str | Path, arrays: Arrays) -> Layout:
    try:
        found = (source.recognise(arrays, Path(path)) for source in SOURCES)
        if layout := next(filter(None, found), None):
            return layout
    except ValueError as error:
        raise ValueError(f"model.encoder.weights={path}: {error}") from None
    raise ValueError(
        f"model.encoder.weights={path}: no known publisher names tensors like "
        f"{listed(sorted(arrays), 3)}; models/pretrained.py lists the sources that are read"
    )


def _check_arguments(path: str | Path, layout: Layout, encoder: partial) -> None:
    """Raises ValueError with the arguments that must change for the file to fit."""
    now = {"type": _kind(encoder), **_arguments(encoder)}
    due = {"type": layout.kind, **layout.arguments}
    wrong = {k: v for k, v in due.items() if k not in PART and now.get(k) != v}
    if not wrong:
        return
    if now["type"] != layout.kind:
        wrong = {"type": layout.kind}
    sizes = {"width", "depth", "heads", "mlp_width"}
    preset = [k for k, v in SIZES.items() if (v[0], v[1]) == (due.get("width"), due.get("depth"))]
    if layout.kind == "vit" and preset and wrong.keys() & sizes:
        wrong = {"size": preset[0]} | {k: v for k, v in wrong.items() if k not in sizes}
        now["size"] = encoder.keywords.get("size", "S")
    said = ", ".join(f"model.encoder.{k}={v!r} (now {now.get(k)!r})" for k, v in wrong.items())
    raise ValueError(f"model.encoder.weights={path} is {layout.says}: set {said}")


def _misfit(
    path: str | Path, layout: Layout, encoder: partial, missing: list[str], unknown: list[str]
) -> str:
    said = f"model.encoder.weights={path}, read as {layout.says}, does not fit"
    said += f"; no tensor for: {listed(missing)}" if missing else ""
    said += f"; no place for: {listed(unknown)}" if unknown else ""
    has, want = layout.arguments.get("num_classes", 0), _arguments(encoder).get("num_classes", 0)
    if want and has != want:
        said += (
            f"; it has {has} classes: set model.encoder.num_classes={has} (now {want}), or leave "
            "the head at random with model.encoder.weights_skip=('head/',)"
        )
    return said


def _said(path: str | Path, layout: Layout, unused: list[str], skipped: list[str]) -> str:
    told = [f"{k} {layout.settings[k]}" for k in TOLD if k in layout.settings]
    size = f", made for {layout.size}-pixel images" if layout.size else ""
    told += [f"central {layout.crop:.1%} of each side"] if layout.crop < 1 else []
    said = f"{path} is {layout.says}{size}" + (f"; {', '.join(told)}" if told else "")
    said += f"; not used: {counted(unused)}" if unused else ""
    return said + (f"; at random (weights_skip): {counted(skipped)}" if skipped else "")


def _differences(found: Mapping[str, np.ndarray], due: Shapes) -> list[str]:
    """What is missing from `found` or has another shape there, in words."""
    absent = [f"{k} {list(shape)}" for k, shape in due.items() if k not in found]
    wrong = [k for k, shape in due.items() if k in found and found[k].shape != shape]
    return absent + [f"{k} {list(due[k])} (it has {list(found[k].shape)})" for k in wrong]


def _resize_positions(found: dict[str, np.ndarray], due: Shapes) -> None:
    """A ViT's learned positions of another grid: bicubic, the class token's row as it is."""
    table, shape = found.get("positions"), due.get("positions")
    if table is None or shape is None or table.shape[0] == shape[0]:
        return
    side = int(shape[0] ** 0.5)
    extra = shape[0] - side**2
    grid = np.asarray(interpolate(jax.numpy.asarray(table[extra:]), side, side))
    found["positions"] = np.concatenate([table[:extra], grid])


def _shapes(encoder: partial) -> tuple[dict[str, str], Shapes]:
    """({path: "params" or "stats"}, {path: shape}) of the encoder, computed without allocating."""
    init = functional(lambda rngs: encoder(rngs=rngs)).init
    leaves = flatten(jax.eval_shape(init, jax.random.key(0)))
    room = {k.split("/", 1)[1]: k.split("/", 1)[0] for k in leaves}
    return room, {k.split("/", 1)[1]: leaf.shape for k, leaf in leaves.items()}


def _arguments(encoder: partial) -> dict[str, Any]:
    """All arguments of `encoder`, defaults included; a ViT's preset as the sizes it stands for."""
    known = inspect.signature(encoder.func.__init__).parameters
    given = {k: p.default for k, p in known.items() if p.default is not p.empty}
    given |= {k: v for k, v in encoder.keywords.items() if k in known}
    if _kind(encoder) == "vit":
        sizes = ("width", "depth", "heads", "mlp_width")
        preset = dict(zip(sizes, SIZES[given.pop("size")], strict=True))
        given |= {k: given[k] or v for k, v in preset.items()}
    return given


def _kind(encoder: partial) -> str:
    return encoder.func.__module__.rsplit(".", 1)[-1]


def _matches(regexes: Sequence[str], *names: str) -> bool:
    return any(re.search(regex, name) for regex in regexes for name in names)
