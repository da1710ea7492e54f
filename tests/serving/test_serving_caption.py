"""`python -m serving.caption`: a run is rebuilt from its folder and captions any image file."""

import functools
import json
import math
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from data.images import load
from data.tokenizer import Tokenizer
from models.captioner import caption
from serving import caption as serving
from serving.program import as_json

SIZE, CROP, LENGTH = 16, 0.8, 6  # of the run in conftest.py


def test_variables_are_the_average_joined_with_the_frozen(run):
    workdir, _, variables = run
    same = lambda a, b: all(jax.tree.leaves(jax.tree.map(lambda x, y: (x == y).all(), a, b)))  # noqa: E731
    assert same(serving.load_variables(workdir), variables)
    latest = serving.load_variables(workdir, "latest")["params"]
    assert same(latest["encoder"], variables["params"]["encoder"])
    assert not any(x.any() for x in jax.tree.leaves(latest["decoder"]))
    assert same(serving.load_variables(workdir, "1"), variables)


def test_captions_equal_the_model_and_bad_files_do_not_stop_them(run, photos, capsys):
    workdir, model, variables = run
    files = [str(photos / name) for name in ("0.png", "torn.jpg", "1.jpg", "none.jpg", "2.jpg")]
    assert serving.main([f"--workdir={workdir}", *files]) == 1
    out, err = capsys.readouterr()
    good = (files[0], files[2], files[4])
    images = [load(Path(f).read_bytes, f, SIZE, share=CROP) for f in good]
    options = dict(beam=2, length=LENGTH, length_penalty=0.5)
    decode = jax.jit(functools.partial(caption, model, **options))
    want = decode(variables, jnp.stack(images))["tokens"][:, 0]
    tokenizer = Tokenizer.load(workdir / "vocabulary.json")
    said = [tokenizer.decode(row) for row in want.tolist()]
    assert out.splitlines() == [f"{f}: {s}" for f, s in zip(good, said, strict=True)]
    lines = err.splitlines()
    assert len(lines) == 2 and "torn.jpg" in lines[0] and "none.jpg: there is no such" in lines[1]


def test_a_batch_size_changes_no_caption(run, photos):
    files = [str(photos / name) for name in ("0.png", "1.jpg", "2.jpg")]
    texts = [
        [one.caption for one in serving.Photographs(run[0], batch_size=n).files(files)]
        for n in (2, 3)
    ]
    assert texts[0] == texts[1]


def test_json(run, photos, capsys):
    files = [str(photos / "0.png"), str(photos / "torn.jpg")]
    assert serving.main([f"--workdir={run[0]}", "--json", "--beam=1", *files]) == 1
    good, bad = json.loads(capsys.readouterr().out)
    assert good["image"] == files[0] and good["caption"] and good["logprob"] < 0
    assert bad["image"] == files[1] and "torn.jpg" in bad["error"]


def test_nothing_found_is_null_in_json():
    assert as_json([("", -math.inf)]) == {"caption": "", "logprob": None}


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--workdir=nowhere"], "nowhere/config.json cannot be read"),
        (["--workdir={}", "--checkpoint=9"], "no step 9"),
        (["--workdir={}", "--checkpoint=newest"], "use best, latest or a step"),
        (["--workdir={}", "--decode", "forced=zebra"], '"zebra" has a word that is not in'),
        (["--workdir={}", "--decode", "consensus=true"], "consensus=true weighs words by"),
        (["--workdir={}", "--ensemble=nowhere"], "nowhere/config.json cannot be read"),
        (["--workdir={}", "--decode", "min_length=9"], "min_length=9 is longer than length=6"),
        (["--workdir={}", "--beam=0"], "beam=0: it is the number of hypotheses"),
    ],
)
def test_an_unusable_run_is_one_sentence(run, photos, capsys, flags, said):
    flags = [flag.format(run[0]) for flag in flags]
    assert serving.main([str(photos / "0.png"), *flags]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_constraints_n_best_and_an_ensemble_of_the_run_with_itself(run, photos, capsys):
    flags = [str(photos / "0.png"), f"--workdir={run[0]}", "--json", "--n_best=2"]
    search = ["--decode", "beam=4", "forced=sleep", "banned=red dog, a"]
    assert serving.main([*flags, *search]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    texts = [row["caption"], row["others"][0]["caption"]]
    assert len(row["others"]) == 1 and len(set(texts)) == 2
    for words in map(str.split, texts):
        assert "sleep" in words and "a" not in words
    assert serving.main([*flags, f"--ensemble={run[0]}", *search]) == 0
    (twice,) = json.loads(capsys.readouterr().out)
    assert twice["caption"] == row["caption"]
    assert twice["logprob"] == pytest.approx(row["logprob"], abs=1e-3)


def test_an_ensemble_shares_its_words_and_image_size(run, tmp_path):
    for name in ("config.json", "vocabulary.json"):
        (tmp_path / name).write_bytes((run[0] / name).read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["data"]["image_size"] = 99
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="data.image_size=99, but .* is 16"):
        serving.Photographs(run[0], ensemble=[tmp_path])
    Tokenizer.train("words", ["other words"], min_count=1).save(tmp_path / "vocabulary.json")
    with pytest.raises(ValueError, match="its vocabulary is not that of"):
        serving.Photographs(run[0], ensemble=[tmp_path])


def test_loads_no_training_code_it_does_not_need():
    code = "import sys, serving.caption\n"
    code += "assert not {'grain', 'train', 'tasks', 'configs'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
