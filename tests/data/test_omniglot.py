"""Omniglot: turned copies stay with their character, ink is bright, the official runs are read."""

import numpy as np
import pytest

from data.episode_plan import Shape
from data.episodes import Episodes
from data.omniglot import around_ink, read
from data.omniglot_runs import OmniglotRuns
from tests.tiny_omniglot import write_background, write_runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_runs(write_background(tmp_path_factory.mktemp("omniglot")))


def test_characters_of_both_zips_are_read_once(folder):
    table = read(str(folder))
    assert len(table.rows) == 3 * 4 * 6
    assert set(table.groups.values()) == {"Greek", "Latin", "Tagalog"}
    assert table.groups["Latin/character02"] == "Latin" and not table.copies
    picture = table.rows[0].value()
    assert picture.shape == (105, 105, 3)
    assert picture.max() == 255 and np.median(picture) == 0  # ink is bright


def test_turned_copies_are_classes_of_their_own(folder):
    table = read(str(folder), rotations=4, mirrored=True)
    assert len(table.groups) == 3 * 4 * 8
    assert table.groups["Greek/character01@270m"] == "Greek@270m"
    by_label = {}
    for row in table.rows:
        by_label.setdefault(row.label, row.value())
    plain = by_label["Greek/character01"]
    np.testing.assert_array_equal(by_label["Greek/character01@90"], np.rot90(plain))
    np.testing.assert_array_equal(by_label["Greek/character01@0m"], plain[:, ::-1])


@pytest.mark.parametrize(
    "how",
    [
        dict(class_counts=(7, 3, 2), class_seed=1),
        dict(),  # 60/20/20 %
        dict(options=dict(dev=("Latin",), test=("Tagalog",))),
    ],
)
def test_copies_never_leave_the_split_of_their_character(folder, how):
    options = dict(rotations=4, mirrored=True) | how.pop("options", {})
    data = Episodes(source="omniglot", path=str(folder), ways=2, options=options, **how)
    splits = {s: {c.split("@")[0] for c in data.classes(s)} for s in ("train", "dev", "test")}
    assert sum(map(len, splits.values())) == len(set.union(*splits.values())) == 12
    for split, characters in splits.items():
        assert len(data.classes(split)) == 8 * len(characters)
    if options.get("dev"):
        assert {c.split("/")[0] for c in splits["dev"]} == {"Latin"}


def test_episodes_within_an_alphabet_do_not_mix_turns(folder):
    data = Episodes(
        source="omniglot", path=str(folder), ways=3, within_groups=True,
        class_counts=(12, 0, 0), options=dict(rotations=2),
    )  # fmt: skip
    plan = data.plan("train", data.shape, 0)
    for i in range(20):
        names = [plan.names[c] for c in plan.draw(i).classes]
        assert len({(n.split("/")[0], n.partition("@")[2]) for n in names}) == 1


def test_the_box_around_the_ink():
    picture = np.zeros((105, 105, 3), np.uint8)
    picture[90:100, 10:50] = 255
    found = around_ink(picture, 1.25)
    assert found.shape == (50, 50, 3)  # 1.25 times 40, past the edge of the sheet
    assert found.astype(int).sum() == picture.astype(int).sum()
    ys, xs = np.nonzero(found[..., 0])
    assert (ys.min() + ys.max(), xs.min() + xs.max()) == (49, 49)
    assert around_ink(picture, 1.25, stretch=1.0).shape == (15, 50, 3)  # THIN is 12 pixels
    assert around_ink(picture, 1.25, stretch=0.5).shape == (27, 50, 3)
    assert around_ink(picture, 0) is picture
    assert around_ink(np.zeros_like(picture), 1.25).shape == picture.shape


def test_the_official_runs(folder):
    runs = OmniglotRuns(str(folder), size=20, channels=1, margin=1.2)
    assert len(runs.runs) == 2 and len(runs.rows) == 20
    second = runs.draw(1)
    assert second.ways == 5 and second.query_label.tolist() == [1, 2, 3, 4, 0]
    assert [runs.names[c] for c in second.classes][:1] == ["run02/training/class01.png"]
    batch = runs.gather([runs.draw(0), second])
    assert batch["support"]["image"].shape == (2, 5, 20, 20, 1) and batch["present"].all()
    # The drawer of the tests writes smaller, which the square around the ink undoes.
    apart = np.abs(
        np.diff([batch["query"]["image"][0, 2], batch["support"]["image"][0, 2]], axis=0)
    )
    assert apart.mean() < 60
    with pytest.raises(FileNotFoundError, match="take the evaluator of its runs out"):
        OmniglotRuns(str(folder.parent), size=20, channels=1)


def test_what_does_not_fit_is_a_sentence(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no images_background\*\.zip"):
        read(str(tmp_path))
    with pytest.raises(ValueError, match="rotations=3 must be 1, 2 or 4"):
        read(str(folder), rotations=3)
    with pytest.raises(ValueError, match='dev: no group is called "Roman"; use Greek, Latin'):
        read(str(folder), dev=("Roman",))
    with pytest.raises(ValueError, match='"Latin" cannot be in both dev and test'):
        read(str(folder), dev=("Latin",), test=("Latin",))


def test_real_omniglot(real_data):
    table = read(str(real_data("omniglot")))
    assert len(table.rows) == 4_840 and len(table.groups) == 242
    assert len(set(table.groups.values())) == 8
    runs = OmniglotRuns(str(real_data("omniglot")), size=28, channels=1)
    assert len(runs.runs) == 20 and len(runs.rows) == 800
    assert all(runs.draw(i).ways == 20 for i in range(20))
    assert runs.plan("runs", Shape(), 0) is runs
