"""Reads PyTorch state dicts (`.pth`, `.pt`, both of its formats) without PyTorch.

A pickle may run any code: this reader knows tensors, storages and OrderedDict and refuses the rest.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np

# torch.XStorage -> the type of its elements.
STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
MAGIC = 0x1950A86A20F9469CFC6C  # the first object of the format before PyTorch 1.6
# Where training scripts put the state dict beside epochs and optimizer moments.
HOLDERS = ("state_dict", "model")


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """{name: array} of the state dict in a file that `torch.save` wrote, types as stored.

    The dict may lie under "state_dict" or "model"; the prefix of DataParallel is taken off.
    Raises pickle.UnpicklingError, OSError or ValueError where the file is anything else.
    """
    state = _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
    held = [key for key in HOLDERS if isinstance(state, dict) and isinstance(state.get(key), dict)]
    state = state[held[0]] if held else state
    if not isinstance(state, dict) or not all(isinstance(v, np.ndarray) for v in state.values()):
        raise ValueError("it holds more than tensors by name: save model.state_dict()")
    return {name.removeprefix("module."): array.copy("C") for name, array in state.items()}


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        pickled = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        root = pickled.removesuffix("data.pkl")
        order = f"{root}byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise ValueError("it is big-endian: save it on a little-endian machine")

        def storage(dtype: np.dtype, key: str, size: int) -> np.ndarray:
            return np.frombuffer(archive.read(f"{root}data/{key}"), dtype, size)

        return _Unpickler(io.BytesIO(archive.read(pickled)), storage).load()


def _read_legacy(path: Path) -> Any:
    """Three headers, the pickled dict, the storages' keys, then each one's length and values."""
    found: dict[str, np.ndarray] = {}
    room = path.stat().st_size

    def storage(dtype: np.dtype, key: str, size: int) -> np.ndarray:
        if size * dtype.itemsize > room:
            raise ValueError("it is cut short")
        return found.setdefault(key, np.zeros(size, dtype))

    with open(path, "rb") as file:
        if _load(file) != MAGIC:
            raise ValueError("it is no PyTorch file")
        _load(file), _load(file)  # protocol, system
        state = _Unpickler(file, storage).load()
        for key in _load(file):
            size = int(np.frombuffer(file.read(8), "<i8")[0])
            found[key][:] = np.frombuffer(file.read(size * found[key].itemsize), found[key].dtype)
    return state


def _load(file: BinaryIO) -> Any:
    return _Unpickler(file, _no_storage).load()


def _no_storage(*_: Any) -> np.ndarray:
    raise pickle.UnpicklingError("it has a tensor in its header")


class _Unpickler(pickle.Unpickler):
    """storage(dtype, key, size) gives the flat array that tensors are views of."""

    def __init__(self, file: BinaryIO, storage: Callable[[np.dtype, str, int], np.ndarray]):
        super().__init__(file)
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGES:
            return np.dtype(STORAGES[name])
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        raise pickle.UnpicklingError(f"it holds a {module}.{name}: save model.state_dict()")

    def persistent_load(self, pid: tuple) -> np.ndarray:
        _, dtype, key, _, size = pid[:5]
        return self._storage(dtype, key, size)


def _tensor(storage: np.ndarray, offset: int, shape: tuple, strides: tuple, *_: Any) -> np.ndarray:
    """A view [*shape] of a flat storage; strides count elements."""
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if min((offset, *strides)) < 0 or (0 not in shape and last >= storage.size):
        raise pickle.UnpicklingError("a tensor reaches beyond its storage")
    steps = [step * storage.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps)


def _parameter(data: np.ndarray, *_: Any) -> np.ndarray:
    return data


ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}
