"""Folders of images: classes, groups, zips, what is wrong in them; jitter of training images."""

import zipfile

import numpy as np
import pytest

from data.class_images import read
from data.episodes import Episodes
from data.jitter import Jitter
from tests.data.pictures import jpeg


def write(folder, names):
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(jpeg(i))
    return folder


FLAT = [f"{c}/{i}.jpg" for c in ("cat", "dog", "emu") for i in range(4)]
NESTED = [f"{g}/{c}/{i}.JPG" for g in ("pets", "wild") for c in ("a", "b") for i in range(4)]


def test_a_folder_of_each_class(tmp_path):
    table = read(str(write(tmp_path, FLAT)))
    assert [row.label for row in table.rows] == [name.split("/")[0] for name in FLAT]
    assert table.groups == dict.fromkeys(("cat", "dog", "emu"), ".") and not table.classes


def test_nested_folders_are_groups_and_may_be_kept_for_tests(tmp_path):
    table = read(str(write(tmp_path, NESTED)), test=("wild",))
    assert table.groups == {"pets/a": "pets", "pets/b": "pets", "wild/a": "wild", "wild/b": "wild"}
    assert table.classes == {"train": ("pets/a", "pets/b"), "dev": (), "test": ("wild/a", "wild/b")}


@pytest.mark.parametrize("top", ["", "mine/"])
def test_a_zip_is_read_as_the_folder_in_it(tmp_path, top):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as out:
        for i, name in enumerate(FLAT):
            out.writestr(top + name, jpeg(i))
        out.writestr(f"__MACOSX/{top}._{FLAT[0]}", b"")
    table = read(str(tmp_path / "x.zip"))
    folder = tmp_path / "x"
    same = read(str(write(folder, FLAT)))
    assert [(r.label, r.value()) for r in table.rows] == [(r.label, r.value()) for r in same.rows]


def test_what_is_wrong_is_a_sentence(tmp_path):
    write(tmp_path, [*FLAT, "loose.jpg"])
    with pytest.raises(ValueError, match="loose.jpg lies in no class folder; move it"):
        read(str(tmp_path))
    (tmp_path / "loose.jpg").unlink()
    (tmp_path / "fox").mkdir()
    with pytest.raises(ValueError, match="class folder .*fox holds no image; add some"):
        read(str(tmp_path))
    assert len(read(str(tmp_path), on_error="skip").skipped) == 1
    (tmp_path / "fox").rmdir()
    (tmp_path / "cat" / "0.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match="cat/0.jpg: not an image file"):
        Episodes(source="class_images", path=str(tmp_path), ways=2, image_size=8)
    with pytest.raises(ValueError, match="is not a|cannot be opened as a zip"):
        read(str(tmp_path / "dog" / "0.jpg"))


def episodes(tmp_path, **options):
    write(tmp_path, FLAT)
    return Episodes(
        source="class_images", path=str(tmp_path), class_counts=(3, 0, 0), ways=3, queries=1,
        batch_size=2, image_size=12, channels=3, **options,
    )  # fmt: skip


def test_training_images_are_jittered_by_episode_and_place(tmp_path):
    plain = next(episodes(tmp_path).batches(seed=0))
    data = episodes(tmp_path, augment=dict(rotate=20, edge="reflect"))
    first, again = (next(data.batches(seed=0)) for _ in range(2))
    np.testing.assert_array_equal(first["query"]["image"], again["query"]["image"])
    np.testing.assert_array_equal(first["query"]["label"], plain["query"]["label"])
    assert (first["support"]["image"] != plain["support"]["image"]).mean() > 0.5
    # A host's block is the same rows, changed in the same way; what is evaluated is not changed.
    half = next(data.batches(seed=0, process=1, processes=2))
    np.testing.assert_array_equal(half["support"]["image"], first["support"]["image"][1:])
    drawn = data.plan("train", data.shape, 0).draw(0)
    np.testing.assert_array_equal(
        data.gather([drawn])["query"]["image"], plain["query"]["image"][:1]
    )


def test_jitter_does_what_it_is_called():
    bar = np.zeros((2, 21, 21, 1), np.uint8)
    bar[:, 10, 4:15] = 200
    np.testing.assert_array_equal(Jitter().rows(bar, (0,)), bar)
    mirrored = Jitter(mirror=True).rows(np.repeat(bar, 20, 0), (1,))
    sums = [tuple((x == y).all() for y in (bar[0], bar[0, :, ::-1])) for x in mirrored]
    assert {(True, False), (False, True)} == set(sums)
    turned = Jitter(rotate=40).rows(bar, (2,))
    assert (turned[0] != turned[1]).any() and abs(turned.mean() / bar.mean() - 1) < 0.2
    colour = np.repeat(bar, 3, axis=-1)
    many = Jitter(10, 0.2, 0.2, 0.1, 0.03, 0.8, 0.5).rows(colour, (3,))
    assert many.shape == colour.shape and (many[..., 0] == many[..., 2]).all()
    with pytest.raises(ValueError, match="data.augment.rotation is unknown; use rotate, shear"):
        Jitter.of(rotation=3)
    with pytest.raises(ValueError, match='edge="wrap" is none of zero, reflect'):
        Jitter.of(edge="wrap")
