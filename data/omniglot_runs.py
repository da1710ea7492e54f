"""Omniglot's official one-shot test: 20 runs, each of 20 characters of one alphabet.

In a run every test drawing is to be told which of 20 training drawings, all by someone else, shows
the same character (Lake et al. 2015). The path is the publisher's all_runs.zip, or its folder.
"""

import functools
import re
from pathlib import Path

import numpy as np

from data.class_images import zipped
from data.classes import Row
from data.columns import image_column
from data.episode_plan import Drawn, Shape
from data.episodes import Episodes
from data.omniglot import Glyph
from data.source import ZipImage, existing

ARCHIVE = "all_runs.zip"
ANSWERS = "class_labels.txt"  # lines "run01/test/item01.png run01/training/class08.png"


class OmniglotRuns(Episodes):
    """The runs as episodes of a split of their own; index 0 is run01.

    size, channels: of the images; margin, stretch: of data/omniglot.py `around_ink`.
    """

    def __init__(
        self, path: str, *, size: int, channels: int, margin: float = 0.0, stretch: float = 0.0
    ) -> None:
        place = existing(path)
        place = place / ARCHIVE if place.is_dir() else place
        if not place.exists():
            raise FileNotFoundError(
                f"{place} does not exist; put Omniglot's {ARCHIVE} there, or take the evaluator "
                "of its runs out of config.evals"
            )
        self.name, self.names, self.runs, self.rows = str(place), [], [], []
        self._glyph = functools.partial(Glyph, margin=margin, stretch=stretch)
        images = zipped(place)[1]
        for run in sorted({name.split("/")[0] for name in images}):
            self._add(_answers(place, run), images)
        self.columns = {"image": image_column(self.rows, size, channels)}

    def _add(self, answers: dict[str, str], images: dict[str, ZipImage]) -> None:
        """One more run, labels in the order of its training drawings."""
        training = sorted(set(answers.values()))
        support = [self._row(name, images) for name in training]
        query = [self._row(name, images) for name in answers]
        label = [training.index(right) for right in answers.values()]
        known = range(len(self.names), len(self.names) + len(training))
        self.names += training
        of = (support, range(len(training)), query, label)
        arrays = (np.array(x, np.int64) for x in of)
        self.runs.append(Drawn(*arrays, tuple(known), len(training), len(self.runs)))

    def _row(self, name: str, images: dict[str, ZipImage]) -> int:
        if name not in images:
            raise ValueError(f"{self.name}: {ANSWERS} names {name}, which is not in the archive")
        self.rows.append(Row(self._glyph(images[name]), name, f"{self.name}:{name}"))
        return len(self.rows) - 1

    def plan(self, split: str, shape: Shape, seed: int) -> "OmniglotRuns":
        """The runs themselves: nothing is drawn."""
        return self

    def size(self, index: int) -> int:
        return 0

    def draw(self, index: int) -> Drawn:
        return self.runs[index]


def _answers(place: Path, run: str) -> dict[str, str]:
    """Test drawing -> the training drawing of its character. Raises ValueError for another list."""
    text = ZipImage(str(place), f"{run}/{ANSWERS}")().decode()
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if not lines or not all(len(x) == 2 and re.match(r"\S+/test/", x[0]) for x in lines):
        raise ValueError(f"{place}: {run}/{ANSWERS} is no list of test and training drawings")
    return dict(lines)
