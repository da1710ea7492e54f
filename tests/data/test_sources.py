"""Reading the three kinds of files, and the sentence for each kind of bad record."""

import json
import pickle
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from pictures import jpeg

from data import flickr8k, json_lines
from data.source import Problems, ZipImage

TOKENS = "Flickr8k_text/Flickr8k.token.txt"


def zipped(root):
    folder = root / "Flicker8k_Dataset"
    with zipfile.ZipFile(root / "Flicker8k_Dataset.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.iterdir():
            archive.write(path, f"Flicker8k_Dataset/{path.name}")
            path.unlink()
    folder.rmdir()


def add(root, line: str, file: str = TOKENS) -> int:
    """Appends a line; returns its number."""
    with open(root / file, "a") as out:
        out.write(line + "\n")
    return len((root / file).read_text().splitlines())


def test_flickr8k_folder_and_zip_hold_the_same(flickr):
    root = flickr()
    folder = flickr8k.read(str(root))
    pixels = {e.image_id: e.image() for split in folder.splits.values() for e in split}
    zipped(root)
    archive = flickr8k.read(str(root))
    assert {k: len(v) for k, v in folder.splits.items()} == {"train": 10, "dev": 3, "test": 2}
    for split in folder.splits:
        for a, b in zip(folder.splits[split], archive.splits[split], strict=True):
            assert (a.image_id, a.captions, a.origin) == (b.image_id, b.captions, b.origin)
            assert pixels[a.image_id] == b.image() == pickle.loads(pickle.dumps(b.image))()
    assert len(folder.splits["dev"][0].captions) == 5
    assert folder.splits["test"][0].captions == ()  # withheld captions: images only
    assert folder.splits["train"][1].origin.endswith("Flickr8k.token.txt:6")


def test_one_zip_serves_many_threads(flickr):
    root = flickr()
    zipped(root)
    examples = flickr8k.read(str(root)).splits["train"] * 30
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda e: e.image(), examples)) == [
            jpeg(int(e.image_id.split(".")[0])) for e in examples
        ]


def test_flickr8k_text_beside_the_images_and_other_languages(flickr):
    root = flickr()
    for path in (root / "Flickr8k_text").iterdir():
        path.rename(root / path.name)
    (root / "Flickr8k_text").rmdir()
    (root / "flickr8k.zh.token.txt").write_text("0.jpg#0\t一只狗\n10.jpg#0\t一只猫\n")
    source = flickr8k.read(str(root), language="zh")
    assert {k: len(v) for k, v in source.splits.items()} == {"train": 1, "dev": 1, "test": 2}
    assert source.splits["train"][0].captions == ("一只狗",)
    assert len(source.skipped) == 11  # an untranslated image is left out, not an error
    with pytest.raises(ValueError, match=r'data\.language="fr".*en, zh, de'):
        flickr8k.read(str(root), language="fr")
    with pytest.raises(FileNotFoundError, match=r"flickr8k\.de\.token\.txt is missing"):
        flickr8k.read(str(root), language="de")


@pytest.mark.parametrize(
    ("line", "file", "message"),
    [
        ("0.jpg#5 no tab here", TOKENS, "no tab"),
        ("absent.jpg#0\ta dog", TOKENS, 'the image "absent.jpg", which is absent'),
        ("0.jpg#5\t  ", TOKENS, "empty caption"),
        ("absent.jpg", "Flickr8k_text/Flickr_8k.devImages.txt", "absent"),
        ("0.jpg", "Flickr8k_text/Flickr_8k.trainImages.txt", "twice"),
        ("14.jpg", "Flickr8k_text/Flickr_8k.devImages.txt", "has no caption"),
    ],
)
def test_bad_flickr8k_lines_name_file_and_line_or_are_counted(flickr, line, file, message):
    root = flickr()
    number = add(root, line, file)
    with pytest.raises(ValueError, match=message) as caught:
        flickr8k.read(str(root))
    assert f"{file}:{number}" in str(caught.value) and 'data.on_error="skip"' in str(caught.value)
    source = flickr8k.read(str(root), on_error="skip")
    assert len(source.skipped) == 1 and f"{file}:{number}" in source.skipped[0]
    assert {k: len(v) for k, v in source.splits.items()} == {"train": 10, "dev": 3, "test": 2}


def test_missing_parts_of_flickr8k(flickr, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'data\.path="/no/where" does not exist'):
        flickr8k.read("/no/where")
    with pytest.raises(FileNotFoundError, match=r"data\.path is empty"):
        flickr8k.read("")
    with pytest.raises(FileNotFoundError, match=r"neither Flicker8k_Dataset/ nor"):
        flickr8k.read(str(tmp_path))
    root = flickr()
    zipped(root)
    (root / "Flicker8k_Dataset.zip").write_bytes(b"PK torn")
    with pytest.raises(ValueError, match="cannot be opened as a zip"):
        flickr8k.read(str(root))
    with pytest.raises(ValueError, match=r'data\.on_error is "ignore"'):
        Problems("ignore")
    assert pickle.loads(pickle.dumps(ZipImage("a", "b"))) == ZipImage("a", "b")


def lines(tmp_path, *records):
    for name in {r["image"] for r in records if isinstance(r, dict) and "image" in r}:
        if "absent" not in name:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(jpeg())
    text = [r if isinstance(r, str) else json.dumps(r) for r in records]
    (tmp_path / "my.jsonl").write_text("\n".join(text) + "\n\n")
    return str(tmp_path / "my.jsonl")


def test_json_lines(tmp_path):
    path = lines(
        tmp_path,
        {"image": "photos/1.jpg", "captions": ["a dog", "two"], "split": "train"},
        {"image": "2.jpg", "caption": "a cat", "split": "val", "image_id": 7},
        {"image": "3.jpg", "split": "test"},
    )
    splits = json_lines.read(path).splits
    assert list(splits) == ["train", "dev", "test"]
    first = splits["train"][0]
    assert (first.image_id, first.captions) == ("photos/1.jpg", ("a dog", "two"))
    assert first.image() == jpeg() and first.origin == f"{path}:1"
    assert splits["dev"][0].image_id == 7 and splits["dev"][0].captions == ("a cat",)
    assert splits["test"][0].captions == ()


def test_made_splits_depend_on_the_image_name_alone(tmp_path):
    records = [{"image": f"{i}.jpg", "caption": f"number {i}"} for i in range(300)]
    splits = json_lines.read(lines(tmp_path, *records)).splits
    sizes = {k: len(v) for k, v in splits.items()}
    assert sum(sizes.values()) == 300 and sizes["train"] > 240 and min(sizes.values()) >= 5
    half = json_lines.read(lines(tmp_path, *records[::-2])).splits
    where = {e.image_id: k for k, v in splits.items() for e in v}
    assert all(where[e.image_id] == k for k, v in half.items() for e in v)
    tiny = json_lines.read(lines(tmp_path, *records[:4])).splits
    assert len(tiny["train"]) >= 1 and len(tiny["dev"]) == 1


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ('{"image": "1.jpg", ', "is not JSON"),
        ("[1, 2]", 'has no "image"'),
        ({"captions": ["a"]}, 'has no "image"'),
        ({"image": "1.jpg", "captions": ["a", ""], "split": "dev"}, "empty caption"),
        ({"image": "1.jpg", "captions": ["a", 3]}, "not a list of texts"),
        ({"image": "1.jpg", "captions": [], "split": "dev"}, 'has no "captions"'),
        ({"image": "1.jpg", "caption": "a", "split": 3}, "not text"),
        ({"image": "absent.jpg", "caption": "a dog"}, 'the image "absent.jpg", which is absent'),
    ],
)
def test_bad_json_lines_name_file_and_line_or_are_counted(tmp_path, record, message):
    good = [
        {"image": f"{i}.jpg", "caption": "a dog", "split": s} for i, s in enumerate(["train"] * 3)
    ]
    path = lines(tmp_path, good[0], record, *good[1:])
    with pytest.raises(ValueError, match=message) as caught:
        json_lines.read(path)
    assert str(caught.value).startswith(f"{path}:2 ")
    assert len(json_lines.read(path, on_error="skip").skipped) == 1


def test_json_lines_that_are_no_text_file(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        json_lines.read(str(tmp_path))
    (tmp_path / "x.jsonl").write_bytes(jpeg())
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        json_lines.read(str(tmp_path / "x.jsonl"))
