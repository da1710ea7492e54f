"""A small Omniglot in the publisher's zips, of strokes drawn in a moment."""

import pathlib
import zipfile

import cv2
import numpy as np

ALPHABETS = ("Greek", "Latin", "Tagalog")


def drawing(character: int, drawer: int, scale: float = 1.0) -> bytes:
    """PNG of 105 x 105, ink black on white: a polygon of the character, a little of the drawer."""
    corners = np.random.default_rng(character).uniform(15, 90, (4, 2))
    corners += np.random.default_rng((character, drawer)).normal(0, 2, (4, 2))
    sheet = np.full((105, 105), 255, np.uint8)
    points = np.round(52 + scale * (corners - 52)).astype(np.int32)
    cv2.polylines(sheet, [points], False, 0, 2)
    return cv2.imencode(".png", sheet)[1].tobytes()


def write_background(folder: pathlib.Path, characters: int = 4, drawers: int = 6) -> pathlib.Path:
    """images_background_small1.zip (Greek, Latin) and _small2.zip (Latin, Tagalog)."""
    for part, alphabets in ((1, ALPHABETS[:2]), (2, ALPHABETS[1:])):
        top = f"images_background_small{part}"
        with zipfile.ZipFile(folder / f"{top}.zip", "w") as out:
            for alphabet in alphabets:
                for c in range(characters):
                    number = 100 * ALPHABETS.index(alphabet) + c
                    name = f"{top}/{alphabet}/character{c + 1:02}/{number:04}"
                    for d in range(drawers):
                        out.writestr(f"{name}_{d + 1:02}.png", drawing(number, d))
    return folder


def write_runs(folder: pathlib.Path, runs: int = 2, ways: int = 5) -> pathlib.Path:
    """all_runs.zip; in run r the test drawings are the characters in the order (i + r) % ways."""
    with zipfile.ZipFile(folder / "all_runs.zip", "w") as out:
        for r in range(runs):
            lines = []
            for i in range(ways):
                right = (i + r) % ways
                test, training = (
                    f"run{r + 1:02}/test/item{i + 1:02}.png",
                    f"class{right + 1:02}.png",
                )
                training = f"run{r + 1:02}/training/{training}"
                out.writestr(training, drawing(1000 * (r + 1) + right, 0))
                out.writestr(test, drawing(1000 * (r + 1) + right, 1, scale=0.8))
                lines.append(f"{test} {training}\n")
            out.writestr(f"run{r + 1:02}/class_labels.txt", "".join(lines))
    return folder
