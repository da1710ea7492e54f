"""Shapes, the embedded default: drawn scenes that build themselves at the first use.

Splits train, dev and `compositional`, whose size-colour-shape triples never occur in the other two.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from pathlib import Path

from data import features, tfds_captions
from data.source import Source


def read(path: str = "", *, on_error: str = "raise", language: str = "en") -> Source:
    """The scenes in `path`, drawn there first if need be; language "en" or "zh".

    path: a folder; "" is the cache folder; "small" a few scenes of each split in the cache folder.
    Raises ValueError for an unknown language or a folder that cannot be written.
    """
    name = "small" if path == "small" else "full"
    home = Path(path) if path not in ("", "small") else features.default_folder() / "shapes"
    from data import shapes_builder  # TFDS takes a while to import: only when it is needed

    folder = home / "shapes" / name / shapes_builder.content_version()
    if not (folder / "features.json").exists():
        _build(home, name, folder)
    return tfds_captions.read(str(folder), on_error=on_error, language=language)


def _build(home: Path, name: str, folder: Path) -> None:
    """Drawn beside its place and moved there whole, so that two runs cannot disturb each other."""
    print(f"drawing the scenes of Shapes into {folder}, once", flush=True)
    draft = None
    try:
        home.mkdir(parents=True, exist_ok=True)
        draft = tempfile.mkdtemp(dir=home, prefix="drawing-")
        _draw(draft, name, folder)
    except OSError as error:
        if not (folder / "features.json").exists():  # else another run was faster
            raise ValueError(
                f'data.path="{home}" cannot be written ({error.strerror}); name another folder.'
            ) from error
    finally:
        if draft:
            shutil.rmtree(draft, ignore_errors=True)


def _draw(draft: str, name: str, folder: Path) -> None:
    import tensorflow_datasets as tfds

    from data import shapes_builder

    tfds.disable_progress_bar()
    builder = shapes_builder.Shapes(data_dir=draft, config=name, file_format="array_record")
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS would speak of a download
        builder.download_and_prepare()
    folder.parent.mkdir(parents=True, exist_ok=True)
    Path(builder.data_dir).rename(folder)
