"""`python -m serving.export`: a folder that captions as the run does, without flax and models/."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from jax import export

from data.tokenizer import Tokenizer
from serving import export as writer
from serving.caption import Photographs
from serving.exported import ABOUT, PROGRAM, VOCABULARY, load

PIXELS = np.random.default_rng(7).integers(0, 255, (3, 16, 16, 3), dtype=np.uint8)
READER = """
import json, sys
import numpy as np
from serving.exported import load
pixels = np.load(sys.argv[2])
said = [load(sys.argv[1], batch_size=n).n_best(pixels[:n]) for n in (1, 3)]
loaded = {name.split(".")[0] for name in sys.modules}
assert not loaded & {"flax", "models", "optax", "orbax", "training", "PIL", "cv2"}, loaded
print(json.dumps(said))
"""


def check_equal(found, want):
    """The same words; log-probabilities up to the rounding of sums in another order."""
    for one, other in zip(found, want, strict=True):
        assert [text for text, _ in one] == [text for text, _ in other]
        assert [p for _, p in one] == pytest.approx([p for _, p in other], rel=1e-6)


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "new" / "captioner"
    assert writer.main([f"--workdir={run[0]}", f"--out={out}", "--beam=3"]) == 0
    return out


def test_it_says_what_it_holds(run, exported, capsys):
    assert sorted(p.name for p in exported.iterdir()) == [ABOUT, PROGRAM, VOCABULARY]
    assert [p.name for p in exported.parent.iterdir()] == ["captioner"]  # no draft is left
    about = json.loads((exported / ABOUT).read_text())
    assert [about[k] for k in ("image_size", "image_crop", "beam", "length")] == [16, 0.8, 3, 6]
    assert load(exported).image_crop == 0.8
    program = export.deserialize(bytearray((exported / PROGRAM).read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu") == tuple(about["platforms"])
    assert str(program.in_avals[0]) == "uint8[b,16,16,3]"
    assert [str(x) for x in program.out_avals] == ["int32[b,3,6]", "float32[b,3]"]
    assert str(run[0]) not in (exported / ABOUT).read_text()


def test_another_process_without_flax_says_the_same(run, exported, tmp_path):
    np.save(tmp_path / "pixels.npy", PIXELS)
    command = [sys.executable, "-c", READER, str(exported), str(tmp_path / "pixels.npy")]
    out = subprocess.run(command, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    want = [Photographs(run[0], beam=3, batch_size=n).n_best(PIXELS[:n]) for n in (1, 3)]
    assert len(want[1]) == 3 and len(want[1][0]) == 3 and want[1][0] != want[1][1]
    for found, own in zip(json.loads(out.stdout), want, strict=True):
        check_equal(found, own)


def test_words_search_and_ensemble_are_part_of_it(run, tmp_path):
    both = tmp_path / "both"  # the same run with as many words, now of two languages
    shutil.copytree(run[0], both)
    words = {"en": ["a red dog"], "zh": ["红色狗"]}
    Tokenizer.train("words", words, min_count=1).save(both / "vocabulary.json")
    flags = ["--platforms=cpu", "--language=zh", f"--ensemble={both}"]
    search = "beam=2 forced=狗 no_repeat_ngram=1".split()
    out = tmp_path / "captioner"
    assert writer.main([f"--workdir={both}", f"--out={out}", *flags, "--decode", *search]) == 0
    found = load(out, batch_size=2).n_best(PIXELS)
    options = dict(forced="狗", no_repeat_ngram=1, beam=2)
    own = Photographs(both, ensemble=[both], language="zh", batch_size=2, **options)
    check_equal(found, own.n_best(PIXELS))
    assert all("狗" in text and " " not in text for text, _ in found[0])


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--workdir=nowhere"], "nowhere/config.json cannot be read: --workdir is the folder"),
        (["--workdir={}", "--out={}"], "--out={} exists already; choose another name"),
        (["--workdir={}", "--platforms=cpu,cudda"], 'platform "cudda"; did you mean cuda?'),
        (["--workdir={}", "--platforms=abacus"], "known are cpu, cuda, rocm, tpu."),
        (["--workdir={}", "--decode", "mode=sample"], "mode=sample: an exported program has no"),
        (["--workdir={}", "--decode", "min_length=9"], "min_length=9 is longer than length=6"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(run, tmp_path, capsys, flags, said):
    flags = [f"--out={tmp_path / 'new'}", *(flag.format(run[0]) for flag in flags)]
    assert writer.main(flags) == 2
    error = capsys.readouterr().err
    assert said.format(run[0]) in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def _change(folder, name, edit):
    file = folder / name
    file.write_bytes(edit(file.read_bytes()))


@pytest.mark.parametrize(
    "name, edit, said",
    [
        (PROGRAM, lambda data: data[:-9] + b"x" + data[-8:], "program.stablehlo is damaged; copy"),
        (PROGRAM, lambda data: b"", "program.stablehlo is missing; copy the folder again"),
        (VOCABULARY, lambda data: data.replace(b"dog", b"cat"), "vocabulary.json is damaged"),
        (ABOUT, lambda data: data[:40], "has no captioner.json of the format"),
        (ABOUT, lambda data: data.replace(b"captioner 1", b"captioner 9"), "has no captioner.json"),
        (ABOUT, lambda data: b"[]", "give a folder that `python -m serving.export` wrote"),
    ],
)
def test_a_damaged_folder_is_one_sentence(exported, tmp_path, name, edit, said):
    shutil.copytree(exported, tmp_path / "copy")
    _change(tmp_path / "copy", name, edit)
    with pytest.raises(ValueError, match=said) as error:
        load(tmp_path / "copy")
    assert f"--export={tmp_path / 'copy'}" in str(error.value)


def test_what_was_never_exported_or_for_another_machine(run, tmp_path):
    for path in (tmp_path / "nowhere", run[0]):
        with pytest.raises(ValueError, match=r"--export=.* has no captioner.json"):
            load(path)
    writer.write(Photographs(run[0], beam=1), tmp_path / "tpu", ["tpu"])
    with pytest.raises(ValueError, match="is for tpu, but this machine has cpu; export .*=cpu"):
        load(tmp_path / "tpu")


def test_pixels_of_another_size_are_not_compiled_for(exported):
    with pytest.raises(ValueError, match=r"pixels are uint8 \[n, 16, 16, 3\], not uint8 \[3, 8,"):
        load(exported).n_best(PIXELS[:, :8])
