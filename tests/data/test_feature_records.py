"""data.features=FILE.array_record: the same rows as from an npz, and what is refused."""

import io

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from data import feature_records
from data.captions import Captions
from data.feature_records import write_records
from data.precomputed import open_features

RNG = np.random.default_rng(0)
# The images of the tiny Flickr8k; one has its features as a grid.
REGIONS = {f"{i}.jpg": RNG.normal(size=(2, 2, 4) if i == 4 else (2, 4)) for i in range(15)}


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def write_raw(path, *records):
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()


def opened(root, path):
    options = dict(image_size=8, batch_size=4, min_count=1, features=str(path))
    return Captions(source="flickr8k", path=str(root), **options)


def test_the_rows_are_those_of_an_npz(flickr, tmp_path, monkeypatch):
    root, file = flickr(), tmp_path / "all.array_record"
    np.savez(tmp_path / "all.npz", **REGIONS)
    write_records(file, ((name.removesuffix(".jpg"), feat) for name, feat in REGIONS.items()))
    assert sorted(p.name for p in tmp_path.iterdir() if "all" in p.name) == [file.name, "all.npz"]
    archive, records = opened(root, tmp_path / "all.npz"), opened(root, file)
    for split in ("train", "dev", "test"):
        for a, b in zip(archive.one_pass(split), records.one_pass(split), strict=True):
            assert a["features"].shape == (4, 4, 4) and a["features"].any()
            np.testing.assert_array_equal(a["features"], b["features"])
    monkeypatch.setattr(feature_records, "_row", None)
    again = next(opened(root, file).batches(seed=0))["features"]  # listed the first time
    np.testing.assert_array_equal(again, next(records.batches(seed=0))["features"])


def test_numbers_name_images_and_other_arrays_are_passed_over(tmp_path):
    feat = np.arange(8.0).reshape(2, 4)
    write_raw(tmp_path / "f.array_record", npz(image_id=7, feat=feat, boxes=np.zeros((2, 4))))
    found = open_features(str(tmp_path / "f.array_record"), {"dev": [7]})["dev"]
    np.testing.assert_array_equal(found.rows(np.zeros(1), np.zeros(1, int))[0], feat)


GOOD = npz(image_id="a", feat=np.zeros((2, 4)))


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([GOOD], 'has no features of the image "b"; add them'),
        ([GOOD, npz(image_id="b")], "record 1 is no npz .*feat.npy"),
        ([npz(feat=np.zeros((2, 4)))], "record 0 is no npz .*image_id.npy"),
        ([GOOD, b"hello"], 'record 1 is no npz with "image_id" and "feat" .File is not a zip'),
        ([npz(image_id=np.array("ab", object), feat=np.zeros(2))], "record 0 is no npz .*Object"),
        ([npz(image_id=["a", "b"], feat=np.zeros(2))], "record 0 is no npz .*size 1"),
        ([GOOD, GOOD], 'records 0 and 1 are both of the image "a"; keep one'),
        ([GOOD, npz(image_id="b", feat=np.zeros(3))], r"record 1 holds no features \[S, D\]"),
        ([GOOD, npz(image_id="b", feat=np.zeros((2, 5)))], "features of several widths: 4 .*, 5"),
    ],
)
def test_other_records_are_one_sentence(tmp_path, records, said):
    file = tmp_path / "f.array_record"
    write_raw(file, *records)
    with pytest.raises((ValueError, FileNotFoundError), match=said) as error:
        open_features(str(file), {"train": ["a", "b"]})
    assert str(file) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"hello" * 50_000], ids=["empty", "text"])
def test_other_files_are_one_sentence(tmp_path, content):
    file = tmp_path / "f.array_record"
    file.write_bytes(content)
    said = f"data.features={file} cannot be opened as an ArrayRecord file .*; write it by data"
    with pytest.raises(ValueError, match=said) as error:
        open_features(str(file), {"train": ["a"]})
    assert "\n" not in str(error.value)


def test_a_torn_file_says_where(tmp_path):
    file = tmp_path / "f.array_record"
    write_records(file, ((i, RNG.normal(size=(100, 9))) for i in range(20)))
    data = bytearray(file.read_bytes())
    data[1000:1004] = b"torn"
    file.write_bytes(data)
    with pytest.raises(ValueError, match=f"data.features={file}: record 0 is no npz .*orrupt"):
        open_features(str(file), {"train": [3]})


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_records(tmp_path / "nowhere" / "f.array_record", [])

    def torn():
        yield "a", np.zeros((2, 4))
        raise OSError("the disk of the features")

    with pytest.raises(OSError, match="the disk"):
        write_records(tmp_path / "f.array_record", torn())
    assert not list(tmp_path.iterdir())
