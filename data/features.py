"""A frozen encoder's output, computed once and kept in one memory-mapped file per split.

The file's name is a hash of everything that changes its content, so a stale cache is never read;
it appears under that name only when complete, so a killed run leaves nothing to clean up.
"""

import contextlib
import hashlib
import json
import mmap
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

try:
    import fcntl
except ImportError:  # Windows: two runs at once then build twice, which is only slower
    fcntl = None


def default_folder() -> Path:
    """Where caches go when data.cache_dir is empty."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "capax"


def digest(*parts: object) -> str:
    """24 hexadecimal digits of the parts' JSON."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:24]


def remembered(file: Path, make: Callable[[], Any]) -> Any:
    """What `make()` returns, as JSON; `file` keeps it for the next time."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads(file.read_text(encoding="utf-8"))
    made = make()
    with contextlib.suppress(OSError):  # a read-only home only costs the next start some time
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(made, ensure_ascii=False), encoding="utf-8")
        os.replace(draft, file)
    return made


def array_shape(file: BinaryIO) -> tuple[int, ...]:
    """The shape in the header of a .npy file, which is all that is read of it."""
    version = np.lib.format.read_magic(file)
    read = {(1, 0): "read_array_header_1_0", (2, 0): "read_array_header_2_0"}[version]
    return getattr(np.lib.format, read)(file)[0]


class FeatureFile:
    """Features [views, n, S, D] float16 on disk. Reading leaves no pages in resident memory.

    Raises: ValueError when the file is torn (shorter or longer than its header says).
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise ValueError(f"{path} is not a feature cache")
            self.shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            size = file.tell() + int(np.prod(self.shape)) * dtype.itemsize
            if size != os.fstat(file.fileno()).st_size:
                raise ValueError(f"{path} is torn: it should have {size:,} bytes")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            flat = np.frombuffer(self._map, dtype, offset=file.tell())
        self._array = flat.reshape(self.shape)

    def rows(self, slot: np.ndarray, index: np.ndarray) -> np.ndarray:
        """View slots [B] and examples [B] -> float16 [B, S, D]; index -1 gives zeros."""
        out = np.zeros((len(index), *self.shape[2:]), self._array.dtype)
        for row, view, i in zip(out, slot, index, strict=True):
            if i < 0:
                continue
            row[...] = self._array[view, i]
            if hasattr(self._map, "madvise"):
                # Mapped pages count as the process's memory, and the kernel maps megabytes around
                # each read: hand them back to the page cache at once.
                self._map.madvise(mmap.MADV_DONTNEED)
        return out


def build(
    path: Path,
    views: int,
    n: int,
    batches: Iterator[np.ndarray],
    encode: Callable[[np.ndarray], np.ndarray],
    progress: Callable[[int, int], None] | None = None,
) -> FeatureFile:
    """Opens the cache `path`, building it first where it is absent or torn.

    `batches` yields uint8 [B, H, W, 3], view after view, each view's last batch padded; it is not
    touched when the file is there. One process builds; others on the machine wait for it.
    Raises: OSError naming data.cache_dir when the disk is full or read-only.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _lock(path.with_suffix(".lock")):
            with contextlib.suppress(FileNotFoundError, ValueError):
                return FeatureFile(path)
            draft = path.with_suffix(".tmp")
            try:
                _write(draft, views, n, batches, encode, progress)
                os.replace(draft, path)
            finally:
                draft.unlink(missing_ok=True)
            return FeatureFile(path)
    except OSError as error:
        raise OSError(
            f"the feature cache {path} cannot be written ({error}); free space there or set "
            f"data.cache_dir to another disk"
        ) from error


def _write(path, views, n, batches, encode, progress) -> None:
    with open(path, "wb") as file:
        for view in range(views):
            done = 0
            while done < n:
                features = np.asarray(encode(next(batches)), np.float16)[: n - done]
                if view == done == 0:
                    _header(file, (views, n, *features.shape[1:]))
                file.write(np.ascontiguousarray(features).data)
                done += len(features)
                if progress is not None:
                    progress(view * n + done, views * n)
        file.flush()
        os.fsync(file.fileno())


def _header(file, shape: Sequence[int]) -> None:
    need = int(np.prod(shape)) * 2
    free = shutil.disk_usage(Path(file.name).parent).free
    if need > free:
        raise OSError(f"{need / 2**20:,.0f} MiB are needed and {free / 2**20:,.0f} MiB are free")
    header = {"descr": "<f2", "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(file, header)


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Held by one process of this machine at a time; the system frees it when the process dies."""
    with open(path, "w") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
