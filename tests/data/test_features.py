"""The feature cache: same batches as encoding on the fly, and nothing half-written is ever read."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data import features
from data.captions import Captions

ROOT = Path(__file__).resolve().parents[2]


def encode(image: np.ndarray) -> np.ndarray:
    """[B, 8, 8, 3] -> [B, 4, 3]: the mean colour of four patches."""
    assert image.shape[0] == 4  # one compiled shape, also for the last batch
    patches = image.reshape(len(image), 2, 4, 2, 4, 3).mean((2, 4))
    return patches.reshape(len(image), 4, 3).astype(np.float16)


@pytest.fixture
def opened(flickr, tmp_path):
    root = flickr()

    def make(**options) -> Captions:
        options = dict(image_size=8, batch_size=4, min_count=1, cached_views=3) | options
        cache = str(tmp_path / "cache")
        return Captions(source="flickr8k", path=str(root), cache_dir=cache, **options)

    return make


def test_cached_batches_carry_the_encoders_output(opened):
    data, plain = opened(), opened(cached_views=0)
    told = []
    data.cache_features(encode, "v1", batch_size=4, progress=lambda *a: told.append(a))
    assert told[-1] == ("test", 2, 2) and ("train", 30, 30) in told and ("train", 4, 30) in told
    for split in ("train", "dev", "test"):
        for a, b in zip(data.one_pass(split, 4), plain.one_pass(split, 4), strict=True):
            assert "image" not in a and a["features"].dtype == np.float16
            assert np.array_equal(a["features"], encode(b["image"]))
            assert np.array_equal(a["tokens"], b["tokens"])
        for a, b in zip(data.one_pass(split, images=True), plain.one_pass(split), strict=True):
            assert "features" not in a and np.array_equal(a["image"], b["image"])
    assert "features [3, 10, 4, 3] cached" in data.describe()
    assert data.image("train", 0).shape == (8, 8, 3)


def test_training_draws_from_the_cached_views(opened):
    data, plain = opened(), opened(cached_views=0)
    data.cache_features(encode, "v1", batch_size=4)
    whole = np.stack([plain.image("train", i) for i in range(10)])
    views = [encode(whole[i : i + 4]) for i in (0, 4, 6)]
    mirrored = [encode(whole[i : i + 4, :, ::-1]) for i in (0, 4, 6)]
    rows = [np.concatenate([v[0], v[1], v[2][2:]]) for v in (views, mirrored)]
    seen, stream = set(), data.batches(seed=0)
    for _ in range(15):
        batch = next(stream)
        for row, i in zip(batch["features"], batch["index"], strict=True):
            kinds = [k for k in (0, 1) if np.array_equal(row, rows[k][i])] or ["crop"]
            seen.update(kinds)
    assert seen == {0, 1, "crop"}
    again = data.batches(seed=0, start=15)
    assert np.array_equal(next(stream)["features"], next(again)["features"])


def test_a_second_run_reads_and_another_key_or_size_builds(opened):
    def never(image):
        raise AssertionError("encoded again")

    opened().cache_features(encode, "v1", batch_size=4)
    data = opened()
    data.cache_features(never, "v1", batch_size=4)
    for other, key in ((opened(), "v2"), (opened(cached_views=2), "v1"), (opened(limit=3), "v1")):
        with pytest.raises(AssertionError, match="encoded again"):
            other.cache_features(never, key, batch_size=4)
    np.load(data._splits["train"].cache.path, mmap_mode="r")  # an ordinary .npy file


def test_torn_files_are_rebuilt_and_killed_builds_leave_nothing(opened, tmp_path):
    class Killed(Exception):
        pass

    def dies(image, calls=[]):  # noqa: B006
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        return encode(image)

    data = opened()
    with pytest.raises(Killed):
        data.cache_features(dies, "v1", batch_size=4)
    assert not [p for p in (tmp_path / "cache").iterdir() if p.suffix != ".lock"]
    data.cache_features(encode, "v1", batch_size=4)
    path = Path(data._splits["train"].cache.path)
    content = path.read_bytes()
    for torn in (content[:-7], content[:50], b""):
        path.unlink()
        path.write_bytes(torn)
        opened().cache_features(encode, "v1", batch_size=4)
        assert path.read_bytes() == content


def test_a_full_or_unwritable_disk_names_the_config_key(opened, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(features.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"cannot be written .*needed.*data\.cache_dir"):
        opened().cache_features(encode, "v1", batch_size=4)
    monkeypatch.undo()
    (tmp_path / "file").write_text("")
    data = opened()
    data._cache_dir = tmp_path / "file" / "cache"
    with pytest.raises(OSError, match=r"data\.cache_dir"):
        data.cache_features(encode, "v1", batch_size=4)


def test_reading_keeps_memory_flat(tmp_path):
    code = f"""
import sys, numpy as np
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from data import features
pages = (np.full((16, 64, 1024), i, np.float16) for i in range(40))
cache = features.build(Path({str(tmp_path)!r}) / "f.npy", 1, 640, pages, lambda x: x)
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20
before = resident()
for i in range(0, 640, 16):
    rows = cache.rows(np.zeros(16, int), np.arange(i, i + 16))
    assert (rows == i // 16).all()
assert resident() - before < 20, (before, resident())
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("resident memory is read from /proc")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_two_processes_build_once(opened, tmp_path):
    data = opened()
    script = f"""
import sys, time, numpy as np
sys.path.insert(0, {str(ROOT)!r})
from data.captions import Captions
def encode(image):
    time.sleep(0.05)
    open({str(tmp_path / "calls")!r}, "a").write("x")
    return np.zeros((len(image), 2, 2), np.float16)
data = Captions(source="flickr8k", path={data.name.split()[1]!r}, cache_dir={str(tmp_path / "c")!r},
                image_size=8, batch_size=4, min_count=1)
data.cache_features(encode, "v1", batch_size=4, splits=["train"])
"""
    runs = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
    assert [run.wait() for run in runs] == [0, 0]
    assert len((tmp_path / "calls").read_text()) == 12  # 4 views of 3 batches, by one of the two
