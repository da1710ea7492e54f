"""Reading `coco_captions` and data sets like it from disk, without TensorFlow."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pictures import jpeg

from data import tfds_captions
from data.captions import Captions

ROOT = Path(__file__).resolve().parents[2]
COCO = {"train": 6, "val": 3, "test": 2, "restval": 2}


def build(folder: Path, name: str, features: dict, splits: dict[str, list[dict]]) -> Path:
    """Writes a data set with TFDS, each image as encoded bytes -> its folder."""
    import tensorflow_datasets as tfds

    class Drawn(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.1.0")

        def _info(self):
            shape = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=shape)

        def _split_generators(self, download):
            return {split: self._generate_examples(rows) for split, rows in splits.items()}

        def _generate_examples(self, rows):
            for i, row in enumerate(rows):
                yield i, {**row, "image": io.BytesIO(jpeg(i))}

    Drawn.name = name
    builder = Drawn(data_dir=folder, file_format="array_record")
    builder.download_and_prepare()
    return Path(builder.data_dir)


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """The features of TFDS's coco_captions, with a few drawn pictures."""
    import tensorflow_datasets as tfds

    features = {
        "captions": tfds.features.Sequence({"id": np.int64, "text": tfds.features.Text()}),
        "image": tfds.features.Image(encoding_format="jpeg"),
        "image/filename": tfds.features.Text(),
        "image/id": np.int64,
    }
    rows = {
        split: [
            {
                "captions": [
                    {"id": 10 * i + k, "text": f"a dog number {k} "} for k in range(5 + i % 2)
                ],
                "image/filename": f"{i}.jpg",
                "image/id": 100 * len(split) + i,
            }
            for i in range(n)
        ]
        for split, n in COCO.items()
    }
    return build(tmp_path_factory.mktemp("tfds"), "coco_captions", features, rows)


def test_coco_captions(coco):
    source = tfds_captions.read(str(coco))
    assert {k: len(v) for k, v in source.splits.items()} == {
        "train": 6, "dev": 3, "test": 2, "restval": 2,
    }  # fmt: skip
    images = {e.image_id: e for e in source.splits["dev"]}
    assert set(images) == {300, 301, 302}
    assert images[301].captions == tuple(f"a dog number {k}" for k in range(6))
    assert {e.image() for e in images.values()} == {jpeg(i) for i in range(3)}
    again = tfds_captions.read(str(coco))  # now from the kept list
    assert again.splits == source.splits
    options = dict(path=str(coco), image_size=16, batch_size=4, min_count=1)
    batch = next(Captions(source="tfds_captions", **options).batches(seed=0))
    assert batch["image"].shape == (4, 16, 16, 3) and batch["image"].std() > 5


def test_folders_above_names_and_absent_data_sets(coco, monkeypatch, tmp_path):
    assert tfds_captions.find(str(coco.parents[1])) == coco
    monkeypatch.setenv("TFDS_DATA_DIR", str(coco.parents[1]))
    assert tfds_captions.find("coco_captions") == coco
    for path in ("", "other", str(tmp_path)):
        with pytest.raises(FileNotFoundError, match=r"data\.path=.*prepared by TFDS"):
            tfds_captions.find(path)


def test_captions_by_language_with_truth(tmp_path):
    import tensorflow_datasets as tfds

    text = tfds.features.Text()
    texts = {"en": tfds.features.Sequence(text), "zh": tfds.features.Sequence(text)}
    features = {"image": tfds.features.Image(), "captions": texts, "truth": text}
    row = {"captions": {"en": ["a dog", ""], "zh": ["狗"]}, "truth": json.dumps({"n": 1})}
    folder = build(tmp_path, "two", features, {"train": [row] * 2, "validation": [row]})
    source = tfds_captions.read(str(folder), language="zh")
    assert list(source.splits) == ["train", "dev"]
    assert source.splits["train"][0].captions == ("狗",)
    assert source.splits["train"][1].truth == {"n": 1} and source.splits["train"][1].image_id == 1
    with pytest.raises(ValueError, match=r'data\.language="de".*en, zh'):
        tfds_captions.read(str(folder), language="de")
    with pytest.raises(ValueError, match=r"train\[0\] has an empty caption"):
        tfds_captions.read(str(folder))
    assert len(tfds_captions.read(str(folder), on_error="skip").skipped) == 3


def test_what_holds_no_captioned_images_or_needs_tensorflow(tmp_path):
    import tensorflow_datasets as tfds

    image = {"image": tfds.features.Image()}
    folder = build(tmp_path, "plain", image, {"train": [{}]})
    with pytest.raises(ValueError, match=r"has no feature \['captions'\]"):
        tfds_captions.read(str(folder))
    file = folder / "dataset_info.json"
    file.write_text(file.read_text().replace("array_record", "tfrecord"))
    tfds_captions._builder.cache_clear()
    with pytest.raises(ValueError, match="stored as tfrecord"):
        tfds_captions.read(str(folder))


def test_neither_tensorflow_nor_jax_is_imported(coco):
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from data import tfds_captions
source = tfds_captions.read({str(coco)!r})
assert source.splits["train"][0].image()[:2] == bytes([255, 216])
assert not {{"jax", "tensorflow", "torch"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
