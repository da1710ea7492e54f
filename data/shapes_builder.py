"""Writes the scenes of Shapes to disk as a TensorFlow Datasets builder, without TensorFlow.

Pictures go in as encoded bytes and records as array_record, so `as_data_source()` reads them back
at random and nothing here needs TensorFlow. `data/shapes.py` builds and reads; import it instead.
"""

import hashlib
import io
import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from data import scene_grammar, scenes

SEED = 0
SPLITS_SMALL = {split: max(count // 40, 24) for split, count in scenes.SPLITS.items()}


def content_version() -> str:
    """1.0.N where N changes with the files that draw, word and count the scenes."""
    digest = hashlib.sha256()
    for module in (scenes.__file__, scene_grammar.__file__, __file__):
        digest.update(Path(module).read_bytes())
    return f"1.0.{int.from_bytes(digest.digest()[:4])}"


class Shapes(tfds.core.GeneratorBasedBuilder):
    """Drawn scenes with captions in English and Chinese, and the truth of each scene."""

    code_path = None  # there is nothing to download, so no file of checksums beside this one
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name="full", version=content_version()),
        tfds.core.BuilderConfig(name="small", version=content_version()),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        features = dict(
            image=tfds.features.Image(shape=(scenes.SIDE, scenes.SIDE, 3), encoding_format="png"),
            image_id=tfds.features.Scalar(np.int64),
            captions={
                language: tfds.features.Sequence(tfds.features.Text())
                for language in scene_grammar.LANGUAGES
            },
            truth=tfds.features.Text(),  # JSON, see scenes.draw_scene
        )
        return self.dataset_info_from_configs(
            description=self.__doc__, features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        sizes = SPLITS_SMALL if self.builder_config.name == "small" else scenes.SPLITS
        return {split: self._generate_examples(split, count) for split, count in sizes.items()}

    def _generate_examples(self, split: str, count: int) -> Iterator[tuple[int, dict]]:
        """Two threads draw ahead: Pillow lets go of the interpreter while it encodes."""
        with ThreadPoolExecutor(2) as pool:
            for start in range(0, count, 256):
                indices = range(start, min(start + 256, count))
                yield from pool.map(_example, itertools.repeat(split), indices)


def _example(split: str, index: int) -> tuple[int, dict]:
    truth = scenes.draw_scene(SEED, split, index)
    picture = scenes.png(scenes.draw_picture(truth, SEED))
    return index, dict(
        image=io.BytesIO(picture),
        image_id=truth["image_id"],
        captions={
            language: scene_grammar.references(truth, language)
            for language in scene_grammar.LANGUAGES
        },
        truth=json.dumps(truth),
    )
