"""Document frequencies for CIDEr-D as a file that knows what it was counted from.

    python -m rewards.frequencies --config=configs/X.py [--config.data.path=DIR] --out=df.npz

The training references of the config's data, as ids of its vocabulary, EOS counted as a word.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import zipfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from metrics.cider import Frequencies
from metrics.corpus import MAX_N
from rewards.base import EOS

FORMAT = 1  # raise it when a field changes its meaning
COMMAND = "python -m rewards.frequencies --config=configs/X.py --out={}"


class Counts(NamedTuple):
    """In how many of `images` images each n-gram of ids is in some reference."""

    grams: np.ndarray  # [K, 4] int32 ids, -1 behind a shorter n-gram
    counts: np.ndarray  # [K] int32
    images: int


def from_texts(frequencies: Frequencies) -> Counts:
    """A table of ids joined by blanks -> the same as arrays."""
    ids = np.full((len(frequencies.counts), MAX_N), -1, np.int32)
    for row, text in zip(ids, frequencies.counts, strict=True):
        gram = text.split()
        row[: len(gram)] = gram
    return Counts(ids, np.array([*frequencies.counts.values()], np.int32), frequencies.images)


def count(references: Sequence[Sequence[Sequence[int]]]) -> Counts:
    """References of each image as ids without EOS, which is put behind every text."""
    return from_texts(
        Frequencies.of([[" ".join(map(str, (*ids, EOS))) for ids in image] for image in references])
    )


def of_data(data: Any, split: str = "train") -> Counts:
    """Those of a split's references, whole ones even where training cuts them."""
    encode = data.tokenizer.encode
    return count([[encode(text) for text in texts] for texts in data.references(split).values()])


def save(path: str | pathlib.Path, counts: Counts, *, vocabulary: str, source: str = "") -> None:
    """Writes the file. vocabulary: the tokenizer's hash; source: where the texts are from."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:  # numpy puts .npz behind other names
        facts = dict(format=FORMAT, eos=EOS, vocabulary=vocabulary, source=source)
        np.savez_compressed(file, **facts, **counts._asdict())


def load(path: str | pathlib.Path, vocabulary: str) -> Counts:
    """Reads a file made by `save`; ValueError if it is something else or of another vocabulary."""
    again = f"make it with {COMMAND.format(path)}"
    try:
        with np.load(path, allow_pickle=False) as file:
            held = {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be read as document frequencies: {error}; {again}"
        ) from None
    if missing := {"format", "eos", "vocabulary", *Counts._fields} - set(held):
        raise ValueError(f"{path} is no file of document frequencies: no {min(missing)}; {again}")
    if int(held["format"]) != FORMAT or int(held["eos"]) != EOS:
        raise ValueError(
            f"{path} has format {held['format']} with EOS {held['eos']}, but this program reads "
            f"format {FORMAT} with EOS {EOS}; {again}"
        )
    if str(held["vocabulary"]) != vocabulary:
        raise ValueError(
            f"{path} counts n-grams of the vocabulary {held['vocabulary']}, but the data's is "
            f"{vocabulary}; {again}, the config of this run."
        )
    return Counts(held["grams"], held["counts"], int(held["images"]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Counts and writes. Returns the exit code: 0, or 2 with one sentence on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m rewards.frequencies",
        description=__doc__.splitlines()[0],
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="configs/NAME.py: its data and vocabulary")
    parser.add_argument("--out", required=True, help="file to write, df.npz")
    parser.epilog = "--config.KEY=VALUE changes a value of the config, e.g. --config.data.path"
    known, rest = parser.parse_known_args(arguments)
    try:
        data = _data(known.config, rest)
        counts = of_data(data)
    except (ValueError, OSError) as error:  # ours are sentences
        print(f"error: {error}", file=sys.stderr)
        return 2
    save(known.out, counts, vocabulary=data.tokenizer.hash, source=data.name)
    print(
        f"{known.out}: {len(counts.counts):,} n-grams of the training texts of {counts.images:,} "
        f"images, {data.name}, vocabulary {data.tokenizer.hash}, EOS counted"
    )
    return 0


def _data(config: str, changes: Sequence[str]) -> Any:
    """The data of an experiment, `--config.KEY=VALUE` changed."""
    import experiment  # an entry point: it alone knows how a config becomes data
    from training import build

    c = experiment.read_experiment(config)
    for text in changes:
        key, equals, value = text.partition("=")
        if not key.startswith("--config.") or not equals:
            raise ValueError(f"unknown argument {text}; config values are --config.KEY=VALUE")
        build.override(c, key.removeprefix("--config."), value)
    return build.construct("data", c.data)


if __name__ == "__main__":
    sys.exit(main())
