"""Tiny data sets in their publishers' layouts, drawn for the tests: Flickr8k, JSON lines, COCO."""

from __future__ import annotations

import io
import json
import pathlib

import numpy as np
from PIL import Image

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (40, 70, 220)}
SPLITS = {"train": 16, "dev": 8, "test": 8}


def picture(i: int) -> tuple[bytes, list[str]]:
    """A coloured square as JPEG bytes, and five captions of it."""
    name, colour = list(COLOURS.items())[i % len(COLOURS)]
    pixels = np.full((40, 48, 3), 230, np.uint8)
    x = 4 + i % 20
    pixels[8:30, x : x + 22] = colour
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=92)
    forms = (
        "A {} square .",
        "There is a {} square .",
        "The square is {} .",
        "One {} box .",
        "{} !",
    )
    return buffer.getvalue(), [form.format(name) for form in forms]


# As in the real distribution: every image in Chinese, not every one in German.
TRANSLATED = {
    "zh": ("一个{}方块。", "这里有一个{}方块。", "方块是{}的。", "一个{}盒子。", "{}！"),
    "de": ("Ein {} Quadrat .", "Da ist ein {} Quadrat .", "Eine {} Kiste ."),
}
NAMES = {
    "zh": {"red": "红色", "green": "绿色", "blue": "蓝色"},
    "de": {"red": "rotes", "green": "grünes", "blue": "blaues"},
}


def translated(i: int, language: str) -> list[str]:
    """Captions of `picture(i)`; none in German for every fifth."""
    if language == "de" and i % 5 == 4:
        return []
    name = NAMES[language][list(COLOURS)[i % len(COLOURS)]]
    return [form.format(name) for form in TRANSLATED[language]]


def flickr8k(folder: pathlib.Path) -> pathlib.Path:
    """English as well as Chinese and German captions; those of test are withheld."""
    images, text = folder / "Flicker8k_Dataset", folder / "Flickr8k_text"
    images.mkdir(parents=True)
    text.mkdir()
    lines, i = {"Flickr8k": [], "flickr8k.zh": [], "flickr8k.de": []}, 0
    for split, n in SPLITS.items():
        names = [f"{split}_{k}.jpg" for k in range(n)]
        (text / f"Flickr_8k.{split}Images.txt").write_text("\n".join(names) + "\n")
        for name in names:
            data, captions = picture(i)
            (images / name).write_bytes(data)
            if split != "test":
                said = captions, translated(i, "zh"), translated(i, "de")
                for file, texts in zip(lines.values(), said, strict=True):
                    file += [f"{name}#{k}\t{c}" for k, c in enumerate(texts)]
            i += 1
    for name, rows in lines.items():
        (text / f"{name}.token.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def json_lines(folder: pathlib.Path) -> pathlib.Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines, i = [], 0
    for split, n in SPLITS.items():
        for _ in range(n):
            data, captions = picture(i)
            (folder / f"{i}.jpg").write_bytes(data)
            line = {"image": f"{i}.jpg", "captions": captions, "split": split}
            lines.append(json.dumps(line))
            i += 1
    path = folder / "my.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def coco(folder: pathlib.Path) -> pathlib.Path:
    """A builder on disk with the features of TFDS coco_captions, written without TensorFlow."""
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "image/filename": tfds.features.Text(),
            "image/id": np.int64,
            "captions": tfds.features.Sequence({"id": np.int64, "text": tfds.features.Text()}),
        }
    )

    class TinyCoco(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return self.dataset_info_from_configs(features=features)

        def _split_generators(self, manager):
            return {"train": self._rows(0, 16), "val": self._rows(16, 8), "test": self._rows(24, 8)}

        def _generate_examples(self):
            raise AssertionError("unused")

        def _rows(self, first, n):
            for i in range(first, first + n):
                data, captions = picture(i)
                texts = [{"id": 10 * i + k, "text": c} for k, c in enumerate(captions)]
                yield (
                    i,
                    {
                        "image": io.BytesIO(data),
                        "image/filename": f"COCO_{i:012d}.jpg",
                        "image/id": i,
                        "captions": texts,
                    },
                )

    builder = TinyCoco(data_dir=str(folder), file_format="array_record")
    builder.download_and_prepare()
    return pathlib.Path(builder.data_dir)
