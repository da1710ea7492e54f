"""Captions in a table: CSV, TSV, or Flickr30k's `results.csv` with "|" between the columns.

    image,caption,split
    photos/1.jpg,"a dog, running",train

The first line names the columns; an image has as many lines as captions. Images are looked for
beside the file, then in a folder (or zip) such as images/ or flickr30k_images/. Without a split an
image gets one by a hash of its name, as in json_lines.py.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data.source import (
    RENAMED,
    Example,
    ImageFolders,
    Problems,
    Source,
    existing,
    hashed_splits,
    in_order,
    read_text,
)

IMAGE = ("image", "image_name", "file_name", "filename", "filepath")
CAPTION = ("caption", "comment", "text")


@dataclass
class Row:
    """What the lines of one image say together."""

    split: str
    origin: str
    captions: list[str] = field(default_factory=list)


def read(path: str, *, on_error: str = "raise", language: str = "en") -> Source:
    """Every image is one example, named by its file; `language` is whatever the table holds.

    Raises: FileNotFoundError for a missing file; ValueError for a table without these columns and,
    unless `on_error` is "skip", for a bad line (as file:line): another number of columns, an absent
    image, two splits for one image, or no caption outside the split "test".
    """
    file, problems = existing(path), Problems(on_error)
    if file.is_dir():
        raise ValueError(f'data.path="{path}" is a folder; give the .csv or .tsv file in it')
    folders = ImageFolders(file.parent)
    rows, images = {}, {}
    for where, cells in _table(file):
        try:
            name, caption, split = _cells(cells)
            images[name] = images.get(name) or folders.find(name)
            row = rows.setdefault(name, Row(split, where))
            if row.split != split:
                raise ValueError(f'puts "{name}" into "{split}", but {row.origin} into another')
        except ValueError as error:
            problems.add(f"{where} {error}")
        else:
            row.captions += [caption] if caption else []
    splits: dict[str, list[Example]] = {}
    for name, row in rows.items():
        example = Example(name, images[name], tuple(row.captions), row.origin)
        splits.setdefault(row.split, []).append(example)
    unsplit = splits.pop("", [])
    for split, examples in hashed_splits(unsplit, [e.image_id for e in unsplit]).items():
        splits.setdefault(split, []).extend(examples)
    return Source(in_order(splits), problems.skipped)


def _table(file: Path) -> Iterator[tuple[str, dict[str, str] | str]]:
    """("file:line", {column: cell}) of every line, or a sentence where the line does not fit.

    Raises: ValueError when the first line does not name the columns.
    """
    text = read_text(file)
    head = text.partition("\n")[0]
    mark = next((mark for mark in "|\t" if mark in head), ",")
    # Only commas are quoted: elsewhere a quotation mark belongs to the caption.
    quoting = csv.QUOTE_MINIMAL if mark == "," else csv.QUOTE_NONE
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=mark, quoting=quoting)
    names = [name.strip().lower() for name in next(lines, [])]
    if not set(names) & set(IMAGE) or not set(names) & set(CAPTION):
        raise ValueError(
            f"{file}:1 names the columns {', '.join(names)}; there must be an image and a caption"
        )
    start = lines.line_num + 1
    for cells in lines:
        where, start = f"{file}:{start}", lines.line_num + 1
        if len(cells) == len(names):
            stripped = (cell.strip() for cell in cells)
            yield where, dict(zip(names, stripped, strict=True))
        elif any(cell.strip() for cell in cells):
            yield where, f"has {len(cells)} columns, but the first line names {len(names)}; mend it"


def _cells(cells: dict[str, str] | str) -> tuple[str, str, str]:
    """(image, caption, split) of one line. Raises ValueError saying what is wrong with it."""
    if isinstance(cells, str):
        raise ValueError(cells)
    name = next(cells[column] for column in IMAGE if column in cells)
    caption = next(cells[column] for column in CAPTION if column in cells)
    split = cells.get("split", "")
    if not name:
        raise ValueError("has no image; name one or drop the line")
    if not caption and split != "test":
        raise ValueError('has no caption, which only the split "test" may lack; write one')
    return name, caption, RENAMED.get(split, split)
