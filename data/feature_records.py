"""Features of many images in one ArrayRecord file: `data.features=FILE.array_record`.

Each record is the bytes of an npz with "image_id" (a text or a number) and "feat" [S, D] or
[h, w, D]; other arrays in it are passed over. `write_records` makes such a file, and so does
anything that writes ArrayRecord with group_size:1.
"""

import functools
import io
import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from data.features import array_shape, default_folder, digest, remembered

SUFFIX = ".array_record"
FEAT, IMAGE_ID = "feat.npy", "image_id.npy"


def write_records(path: str | Path, features: Iterable[tuple[int | str, np.ndarray]]) -> None:
    """(image id, feat) pairs -> the file `path`, there when it is complete.

        write_records("regions.array_record", ((f.stem, np.load(f)) for f in folder.glob("*.npy")))

    Raises OSError where it cannot be written.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    draft = f"{path}.{os.getpid()}"
    open(draft, "wb").close()  # the library's own error would be a RuntimeError
    writer = ArrayRecordWriter(draft, "group_size:1,zstd")
    try:
        for image_id, feat in features:
            record = io.BytesIO()
            np.savez(record, image_id=image_id, feat=feat)
            writer.write(record.getvalue())
        writer.close()
        os.replace(draft, path)
    finally:
        Path(draft).unlink(missing_ok=True)


@functools.lru_cache(maxsize=8)
def open_records(path: str, pid: int) -> Sequence[bytes]:
    """A file's records, kept open by each process for itself; threads may share them.

    Raises ValueError for any other file.
    """
    # Imported here: it takes a third of a second that other features need not pay.
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    try:
        return ArrayRecordDataSource([path])
    except RuntimeError as error:
        raise ValueError(
            f"data.features={path} cannot be opened as an ArrayRecord file ({error}); write it by "
            "data.feature_records.write_records"
        ) from error


def listed(path: Path) -> dict[str, tuple[int, ...]]:
    """{image id: shape of its features} in the order of the records.

    All are read for that, once: the list is kept in the cache folder. Raises ValueError for a
    record of another kind, and for two of one image.
    """
    stat = path.stat()
    key = digest(str(path.resolve()), stat.st_size, stat.st_mtime_ns)

    def read() -> list:
        records = open_records(str(path), os.getpid())
        return [_row(records, i, path) for i in range(len(records))]

    rows = remembered(default_folder() / "features" / f"records-{key}.json", read)
    found: dict[str, tuple[int, ...]] = {}
    for i, (name, shape) in enumerate(rows):
        if name in found:
            raise ValueError(
                f"data.features={path}: records {list(found).index(name)} and {i} are both of the "
                f'image "{name}"; keep one'
            )
        found[name] = tuple(shape)
    return found


def _row(records: Sequence[bytes], i: int, path: Path) -> tuple[str, tuple[int, ...]]:
    """(image id, shape) of a record."""
    try:
        with zipfile.ZipFile(io.BytesIO(records[i])) as npz:
            with npz.open(IMAGE_ID) as file:
                name = np.lib.format.read_array(file, allow_pickle=False).item()
            with npz.open(FEAT) as file:
                return str(name), array_shape(file)
    except (RuntimeError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ValueError(
            f'data.features={path}: record {i} is no npz with "image_id" and "feat" ({error}); '
            "write the file by data.feature_records.write_records"
        ) from error
