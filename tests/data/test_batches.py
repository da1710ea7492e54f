"""Training batches are a pure function of (seed, step); evaluation sees every image once."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pictures import jpeg

from data.captions import Captions
from data.plan import CaptionTable, Plan
from data.tokenizer import BOS, EOS, PAD

ROOT = Path(__file__).resolve().parents[2]
SMALL = dict(source="flickr8k", image_size=16, batch_size=4, min_count=1, threads=2, prefetch=2)


def opened(root, **options) -> Captions:
    return Captions(**{**SMALL, "path": str(root), **options})


def take(batches, n: int) -> list[dict]:
    return [next(batches) for _ in range(n)]


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_shapes_sizes_and_what_a_run_prints(flickr):
    data = opened(flickr(), max_len=8)
    batch = next(data.batches(seed=0))
    assert batch["image"].shape == (4, 16, 16, 3) and batch["image"].dtype == np.uint8
    assert batch["tokens"].shape == (4, 5, 10) and batch["tokens"].dtype == np.int32
    assert batch["index"].shape == (4,) and batch["index"].dtype == np.int32
    assert data.sizes == {"train": 10, "dev": 3, "test": 2} and data.skipped == []
    for text in ("10 images, 50 captions", "cut at 8 words", "no captions", data.tokenizer.hash):
        assert text in data.describe()
    assert opened(data.name.split()[1], limit=2).sizes == {"train": 2, "dev": 2, "test": 2}


def test_a_cut_caption_has_no_end_and_short_ones_do(flickr):
    data = opened(flickr(), max_len=8)
    ids, references = data.image_ids("train"), data.references("train")
    batch = next(data.batches(seed=0))
    for captions, i in zip(batch["tokens"], batch["index"], strict=True):
        expected = []
        for words in map(data.tokenizer.encode, references[ids[i]]):
            line = [BOS, *words[:8]] + [EOS] * (len(words) <= 8)
            expected.append(line + [PAD] * (10 - len(line)))
        assert sorted(captions.tolist()) == sorted(expected)


def test_any_start_threads_and_host_count_give_the_same_stream(flickr):
    root = flickr()
    data = opened(root)
    batches = take(data.batches(seed=3), 7)
    for other in (data, opened(root, threads=0), opened(root, threads=1, prefetch=1)):
        assert all(map(same, batches[4:], other.batches(seed=3, start=4)))
    hosts = [data.batches(seed=3, process=p, processes=2) for p in range(2)]
    for batch, *parts in zip(batches, *hosts, strict=False):
        assert same(batch, {k: np.concatenate([p[k] for p in parts]) for k in batch})
    assert not same(batches[0], next(data.batches(seed=4)))
    with pytest.raises(ValueError, match=r"data\.batch_size=4 is not divisible by 3.*instance 6"):
        data.batches(seed=0, process=0, processes=3)


def test_an_epoch_shows_every_image_once_and_orders_differ(flickr):
    index = np.concatenate([b["index"] for b in take(opened(flickr()).batches(seed=0), 5)])
    first, second = index[:10], index[10:]
    assert sorted(first) == sorted(second) == list(range(10)) and list(first) != list(second)


def test_captions_are_sampled_without_replacement(flickr):
    data = opened(flickr(), captions_per_image=2)
    seen = Counter()
    for batch in take(data.batches(seed=0), 40):
        for row, i in zip(batch["tokens"], batch["index"], strict=True):
            assert not np.array_equal(row[0], row[1])
            seen[int(i), row[0].tobytes()] += 1
    assert len(seen) == 50  # each of the 5 captions of the 10 images came first at some time
    wide = next(opened(data.name.split()[1], captions_per_image=7).batches(seed=0))["tokens"]
    assert (wide[:, 5:] == PAD).all() and (wide[:, :5, 0] == BOS).all()


def table(lengths: np.ndarray, sided=False) -> CaptionTable:
    n = len(lengths)
    tokens = np.where(np.arange(22) <= lengths[:, None] + 1, 9, PAD).astype(np.int32)
    return CaptionTable(tokens, lengths, np.full(n, sided), np.arange(n), np.ones(n, int), 0)


def test_buckets_group_captions_by_length_and_lose_none():
    lengths = np.random.default_rng(0).integers(4, 20, 640)
    plain = Plan(table(lengths), 0, 8, 1, (0,), (20,))
    grouped = Plan(table(lengths), 0, 8, 1, (0,), (10, 15, 20))
    steps = [grouped.step(i) for i in range(80)]
    assert {s.words for s in steps} == {10, 15, 20}
    assert all(lengths[s.index].max() <= s.words for s in steps)
    assert sorted(np.concatenate([s.index for s in steps])) == list(range(640))
    assert np.mean([s.words for s in steps]) < 15.5 and plain.step(0).words == 20
    words = [s.words for s in steps[:16]]
    assert words != sorted(words)  # short batches do not all come first
    assert grouped.table.rows(steps[0].captions, 10).shape == (8, 1, 12)


def test_captions_that_name_a_side_are_never_mirrored():
    lengths = np.full(50, 5)
    views = (0, 1, 2, 3)
    free = np.concatenate(
        [Plan(table(lengths), 0, 5, 1, views, (20,)).step(i).view for i in range(20)]
    )
    sided = Plan(table(lengths, sided=True), 0, 5, 1, views, (20,))
    assert set(free) == {0, 1, 2, 3}
    assert set(np.concatenate([sided.step(i).view for i in range(20)])) == {0, 2}


def test_augmentation_can_be_turned_off(flickr):
    root = flickr()
    still = opened(root, augment=False)
    for batch in take(still.batches(seed=0), 3):
        for image, i in zip(batch["image"], batch["index"], strict=True):
            assert np.array_equal(image, still.image("train", i))
    moving = opened(root, flip=False)
    assert any(
        not np.array_equal(image, moving.image("train", i))
        for batch in take(moving.batches(seed=0), 3)
        for image, i in zip(batch["image"], batch["index"], strict=True)
    )


def test_one_pass_is_in_order_and_padded(flickr):
    data = opened(flickr(), captions_per_image=2)
    batches = list(data.one_pass("train", 4))
    assert np.concatenate([b["index"] for b in batches]).tolist() == [*range(10), -1, -1]
    assert (batches[-1]["tokens"][2:] == PAD).all() and not batches[-1]["image"][2:].any()
    for i, image in enumerate(np.concatenate([b["image"] for b in batches])[:10]):
        assert np.array_equal(image, data.image("train", i))
    halves = [list(data.one_pass("train", 4, p, 2)) for p in range(2)]
    for batch, *parts in zip(batches, *halves, strict=True):
        assert same(batch, {k: np.concatenate([p[k] for p in parts]) for k in batch})
    test = list(data.one_pass("test", 4))
    assert len(test) == 1 and (test[0]["tokens"] == PAD).all()
    assert data.references("test") == {} and data.image_ids("test") == ["13.jpg", "14.jpg"]
    assert len(data.references("dev")["10.jpg"]) == 5 and data.truths("dev") == {}


def test_a_bad_image_is_named_by_the_iterator_or_left_out(flickr):
    root = flickr()
    (root / "Flicker8k_Dataset/3.jpg").write_bytes(jpeg(3, 200, 200)[:700])
    (root / "Flicker8k_Dataset/11.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r'token\.txt:16 \(image "3\.jpg"\): the image is damaged'):
        take(opened(root).batches(seed=0), 3)
    with pytest.raises(ValueError, match=r'image "11\.jpg"\): the image file is empty'):
        list(opened(root).one_pass("dev", 2))
    data = opened(root, on_error="skip")
    assert data.sizes == {"train": 9, "dev": 2, "test": 2} and len(data.skipped) == 2
    assert "left out      2 records" in data.describe()
    take(data.batches(seed=0), 4)


def test_a_caption_without_words(flickr):
    root = flickr({f"{i}.jpg": ["a dog runs ."] + [". !"] * (i == 4) for i in range(13)})
    with pytest.raises(ValueError, match=r'caption "\. !" has no words'):
        opened(root)
    data = opened(root, on_error="skip")
    assert data.sizes["train"] == 10 and len(data.skipped) == 1
    assert data.references("train")["4.jpg"] == ["a dog runs ."]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(source="flicker8k"), r'data\.source="flicker8k".*did you mean "flickr8k"'),
        (dict(source="plan"), r'data\.source="plan" is not a file in data/.*use one of .*flickr8k'),
        (dict(path="/no/where"), r'data\.path="/no/where" does not exist'),
        (
            dict(buckets=(12, 40)),
            r"data\.buckets=\(12, 40\) must lie between 1 and data\.max_len=20",
        ),
        (dict(tokenizer="syllables"), r'data\.tokenizer is "syllables"'),
        (dict(on_error="ignore"), r'data\.on_error is "ignore"'),
        (dict(language="fr"), r'data\.language="fr"'),
    ],
)
def test_wrong_options_name_the_config_key(flickr, options, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        opened(**{"root": flickr(), **options})


def test_empty_and_unknown_splits(flickr):
    root = flickr()
    (root / "Flickr8k_text/Flickr_8k.devImages.txt").write_text("\n")
    data = opened(root)
    with pytest.raises(ValueError, match=r'the split "dev" of flickr8k .* is empty'):
        data.one_pass("dev")
    with pytest.raises(ValueError, match=r'has no split "val"; use one of train, dev, test'):
        data.one_pass("val")
    with pytest.raises(ValueError, match=r'the split "test" .* has no captions to train on'):
        data.batches("test", seed=0)
    (root / "Flickr8k_text/Flickr_8k.trainImages.txt").write_text("")
    with pytest.raises(ValueError, match=r'the split "train" .* is empty'):
        opened(root)


def test_a_saved_vocabulary_needs_no_training_split(flickr, tmp_path):
    root = flickr()
    data = opened(root)
    data.tokenizer.save(tmp_path / "vocabulary.json")
    (root / "Flickr8k_text/Flickr_8k.trainImages.txt").write_text("")
    again = opened(root, tokenizer=str(tmp_path / "vocabulary.json"))
    assert again.tokenizer.hash == data.tokenizer.hash and again.sizes["train"] == 0


def test_repeated_ids(tmp_path):
    (tmp_path / "1.jpg").write_bytes(jpeg())
    line = '{"image": "1.jpg", "caption": "a dog", "split": "train"}\n'
    (tmp_path / "my.jsonl").write_text(line * 2)
    options = {**SMALL, "source": "json_lines", "path": str(tmp_path / "my.jsonl")}
    with pytest.raises(ValueError, match=r'my\.jsonl:2: the image id "1\.jpg" occurs twice'):
        Captions(**options)
    assert Captions(**options, on_error="skip").sizes == {"train": 1}


def test_batches_never_need_jax(flickr):
    code = f"""
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("jax", "tensorflow", "torch"):
            raise ImportError(name)
sys.path.insert(0, {str(ROOT)!r})
import data.captions, data.flickr8k, data.json_lines, data.tfds_captions, data.tokenizer
assert not {{"jax", "tensorflow", "torch"}} & set(sys.modules)
sys.meta_path.insert(0, Hidden())
d = data.captions.Captions(source="flickr8k", path={str(flickr())!r}, image_size=8, min_count=1)
assert next(d.batches(seed=0))["image"].shape == (16, 8, 8, 3)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_real_flickr8k(real_data):
    data = Captions(source="flickr8k", path=str(real_data("flickr8k")))
    assert data.sizes == {"train": 6000, "dev": 1000, "test": 1000} and data.skipped == []
    assert sum(map(len, data.references("train").values())) == 30_000
    assert next(data.batches(seed=0))["image"].std() > 20
    for language, tokenizer in (("zh", "characters"), ("de", "words")):
        path = str(real_data("flickr8k"))
        other = Captions(source="flickr8k", path=path, language=language, tokenizer=tokenizer)
        assert other.sizes["dev"] > 800 and next(other.one_pass("dev", 2))["index"].size == 2
