"""Karpathy's splits, COCO's annotations and tables: read as published, bad lines named."""

import json
import zipfile

import pytest
from pictures import jpeg

from data import coco_json, csv_captions, karpathy


def put(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(jpeg())


def counts(source):
    return {split: len(examples) for split, examples in source.splits.items()}


def record(name, split, *captions, **more):
    return {"filename": name, "split": split, "sentences": [{"raw": c} for c in captions], **more}


def karpathy_file(root, *records):
    (root / "dataset_coco.json").write_text(json.dumps({"images": records, "dataset": "coco"}))
    return str(root)


def test_karpathy_joins_restval_and_knows_cocos_folders(tmp_path):
    put(tmp_path, "train2014/1.jpg", "2.jpg", "images/val2014/3.jpg")
    with zipfile.ZipFile(tmp_path / "val2014.zip", "w") as archive:
        archive.writestr("val2014/2.jpg", jpeg(2))
        archive.writestr("val2014/4.jpg", jpeg(4))
    (tmp_path / "2.jpg").unlink()
    path = karpathy_file(
        tmp_path,
        record("1.jpg", "train", "A dog.\n", " Two  dogs", filepath="train2014", cocoid=391895),
        record("2.jpg", "restval", "a cat", filepath="val2014", cocoid=2),
        record("3.jpg", "test", "a cow", filepath="val2014", cocoid=3),
        record("4.jpg", "val", "a hen", filepath="val2014", cocoid=4),
    )
    source = karpathy.read(path)
    assert list(source.splits) == ["train", "dev", "test"] and not source.skipped
    first, second = source.splits["train"]
    assert (first.image_id, first.captions) == (391895, ("A dog.", "Two dogs"))
    assert first.origin == f"{path}/dataset_coco.json images[0]" and first.image() == jpeg()
    assert second.image_id == 2 and second.image() == jpeg(2)
    assert source.splits["test"][0].image() == jpeg() and source.splits["dev"][0].image_id == 4


def test_karpathys_flickr_has_file_names_for_ids(tmp_path):
    put(tmp_path, "flickr30k_images/1.jpg")
    path = karpathy_file(tmp_path, record("1.jpg", "train", "a dog", imgid=0))
    assert karpathy.read(path).splits["train"][0].image_id == "1.jpg"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (record("1.jpg", "tarin", "a dog"), r'has the split "tarin"; use one of train, restval'),
        (record("1.jpg", "train"), r'has no "sentences" for "1.jpg"'),
        (record("1.jpg", "train", "a dog", " "), r'has a sentence without "raw" text for "1.jpg"'),
        (record("9.jpg", "train", "a dog"), r'names the image "9.jpg", which is absent in'),
        ({"split": "train"}, r'has no "filename"'),
    ],
)
def test_bad_karpathy_records(tmp_path, bad, message):
    put(tmp_path, "images/1.jpg")
    path = karpathy_file(tmp_path, record("1.jpg", "train", "a dog"), bad)
    with pytest.raises(ValueError, match=rf"dataset_coco.json images\[1\] {message}"):
        karpathy.read(path)
    source = karpathy.read(path, on_error="skip")
    assert counts(source) == {"train": 1} and len(source.skipped) == 1


def test_karpathy_files_that_are_something_else(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no dataset_\*.json"):
        karpathy.read(str(tmp_path))
    (tmp_path / "dataset_a.json").write_text('{"images":\n [}')
    with pytest.raises(ValueError, match=r"dataset_a.json:2 is not JSON"):
        karpathy.read(str(tmp_path))
    (tmp_path / "dataset_b.json").write_text('{"images": {}}')
    with pytest.raises(ValueError, match=r"holds dataset_a.json, dataset_b.json; give one"):
        karpathy.read(str(tmp_path))
    with pytest.raises(ValueError, match=r'has no list "images" of objects'):
        karpathy.read(str(tmp_path / "dataset_b.json"))


def coco(root, year="2017", images=((1, "1.jpg"),), notes=((1, "a dog"),), split="train"):
    folder = root / "annotations"
    folder.mkdir(exist_ok=True)
    content = {"images": [{"id": i, "file_name": name} for i, name in images]}
    if split != "test":
        content["annotations"] = [{"image_id": i, "caption": text} for i, text in notes]
    kind = "image_info" if split == "test" else "captions"
    (folder / f"{kind}_{split}{year}.json").write_text(json.dumps(content))


def test_coco_as_published(tmp_path):
    put(tmp_path, "train2017/1.jpg", "train2017/2.jpg", "val2017/3.jpg", "images/test2017/4.jpg")
    notes = ((2, "a cat\n"), (1, "a dog"), (2, "two cats "))
    coco(tmp_path, images=((1, "1.jpg"), (2, "2.jpg")), notes=notes)
    coco(tmp_path, images=((3, "3.jpg"),), notes=((3, "a cow"),), split="val")
    coco(tmp_path, images=((4, "4.jpg"),), split="test")
    source = coco_json.read(str(tmp_path))
    assert counts(source) == {"train": 2, "dev": 1, "test": 1}
    assert source.splits["train"][1].captions == ("a cat", "two cats")
    assert source.splits["test"][0].captions == () and source.splits["test"][0].image() == jpeg()
    file = tmp_path / "annotations" / "captions_train2017.json"
    assert source.splits["train"][1].origin == f"{file} images[1]"
    coco(tmp_path, year="2014")
    with pytest.raises(ValueError, match=r"holds the years 2014, 2017; give one file"):
        coco_json.read(str(tmp_path))
    assert coco_json.read(str(file)).splits == source.splits


@pytest.mark.parametrize(
    ("images", "notes", "message", "left"),
    [
        ((), ((7, "a dog"),), r"annotations\[1\] names the image 7, which is not listed", 1),
        ((), ((1, " "),), r"annotations\[1\] has an empty caption for the image 1", 1),
        ((), ((1, None),), r"annotations\[1\] has an empty caption", 1),
        (((2, "2.jpg"),), (), r"images\[1\] has no caption \(image 2\)", 1),
        (((2, "9.jpg"),), ((2, "a"),), r'images\[1\] names the image "9.jpg", which is absent', 1),
        (((None, "2.jpg"),), (), r'images\[1\] has no "id" or no "file_name"', 1),
    ],
)
def test_bad_coco_records(tmp_path, images, notes, message, left):
    put(tmp_path, "train2017/1.jpg", "train2017/2.jpg")
    coco(tmp_path, images=((1, "1.jpg"), *images), notes=((1, "a dog"), *notes))
    with pytest.raises(ValueError, match=rf"captions_train2017.json {message}"):
        coco_json.read(str(tmp_path))
    source = coco_json.read(str(tmp_path), on_error="skip")
    assert counts(source) == {"train": left} and len(source.skipped) == 1


def test_coco_without_annotations(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no captions_train\*.json"):
        coco_json.read(str(tmp_path))


def table(root, text, name="my.csv"):
    (root / name).write_text(text)
    return str(root / name)


def test_csv_with_quotes_splits_and_lines_in_any_order(tmp_path):
    put(tmp_path, "a/1.jpg", "images/2.jpg", "3.jpg")
    text = 'image,caption,split\na/1.jpg,"a dog, running",train\n2.jpg,a cat,val\n'
    text += 'a/1.jpg,"a ""big""\ndog",train\n\n3.jpg,,test\n'
    path = table(tmp_path, text)
    source = csv_captions.read(path)
    assert counts(source) == {"train": 1, "dev": 1, "test": 1}
    first = source.splits["train"][0]
    assert first.captions == ("a dog, running", 'a "big"\ndog') and first.origin == f"{path}:2"
    assert source.splits["test"][0].origin == f"{path}:7"  # a caption took two lines
    assert first.image_id == "a/1.jpg" and first.image() == jpeg()


def test_tsv_and_flickr30ks_table_without_splits(tmp_path):
    put(tmp_path, *(f"flickr30k_images/{i}.jpg" for i in range(60)))
    rows = [f'{i}.jpg| {k}| number "{i}", said {k} .' for i in range(60) for k in range(2)]
    head = "image_name| comment_number| comment\n"
    pipes = csv_captions.read(table(tmp_path, head + "\n".join(rows) + "\n", "results.csv"))
    assert sum(counts(pipes).values()) == 60 and counts(pipes)["train"] > 45
    assert pipes.splits["train"][0].captions[1].startswith('number "')
    text = "Filename\tText\n" + "".join(f"{i}.jpg\ta, b\n" for i in range(60))
    tabs = csv_captions.read(table(tmp_path, text, "my.tsv"))
    where = {e.image_id: split for split, examples in pipes.splits.items() for e in examples}
    assert all(where[e.image_id] == split for split, es in tabs.splits.items() for e in es)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1.jpg|a dog", "has 2 columns, but the first line names 3"),
        ("1.jpg|a|dog|train", "has 4 columns, but the first line names 3"),
        ("1.jpg||train", "has no caption, which only the split"),
        ("|a dog|train", "has no image"),
        ("9.jpg|a dog|train", 'names the image "9.jpg", which is absent'),
        ("1.jpg|a dog|test", 'puts "1.jpg" into "test", but .*my.csv:2 into another'),
    ],
)
def test_bad_lines_of_a_table(tmp_path, line, message):
    put(tmp_path, "1.jpg")
    path = table(tmp_path, f"image|caption|split\n1.jpg|a dog|train\n{line}\n1.jpg|two|train\n")
    with pytest.raises(ValueError, match=f"{path}:3 {message}"):
        csv_captions.read(path)
    source = csv_captions.read(path, on_error="skip")
    assert source.splits["train"][0].captions == ("a dog", "two") and len(source.skipped) == 1


def test_tables_that_are_none(tmp_path):
    for text in ("a dog,1.jpg\n", ""):
        with pytest.raises(ValueError, match=r"my.csv:1 names the columns .*must be an image"):
            csv_captions.read(table(tmp_path, text))
    with pytest.raises(ValueError, match="is a folder"):
        csv_captions.read(str(tmp_path))
