"""`python -m serving.caption`: a run is rebuilt from its folder and captions any image file."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from data.images import load
from data.tokenizer import Tokenizer
from models.captioner import caption
from models.functional import functional
from serving import caption as serving
from training.build import maker
from training.checkpoint import Checkpointer
from training.state import TrainState

MODEL = {
    "type": "captioner",
    "encoder": {"type": "resnet", "stages": 1, "stem": "small", "base_width": 8},
    "decoder": {"type": "attention_lstm", "width": 16, "attention_width": 8},
}
SIZE, LENGTH = 16, 6


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(workdir of two checkpoints, of which the first is best; model; variables of the best)."""
    workdir = tmp_path_factory.mktemp("run")
    tokenizer = Tokenizer.train("words", ["a red dog runs", "two cats sleep here"], min_count=1)
    tokenizer.save(workdir / "vocabulary.json")
    made = maker("models", MODEL, vocab_size=len(tokenizer))
    model = functional(lambda rngs: made(rngs=rngs))
    variables = jax.jit(model.init)(jax.random.key(3))
    params, mesh = variables["params"], jax.make_mesh((1,), ("data",))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    keeper = Checkpointer(workdir, every=1, keep=2, best="dev/CIDEr-D")
    for step, value in ((1, 0.9), (2, 0.1)):
        state = TrainState(
            step=jnp.int32(step),
            params=jax.tree.map(jnp.zeros_like, {"decoder": params["decoder"]}),
            opt_state={"count": jnp.int32(step)},  # never read
            stats=variables["stats"],
            frozen={"encoder": params["encoder"]},
            ema=jax.tree.map(
                jnp.zeros_like if step > 1 else jnp.copy, {"decoder": params["decoder"]}
            ),
        )
        keeper.save(step, jax.device_put(state, everywhere), {"dev/CIDEr-D": value})
    keeper.close()
    config = {
        # The weights file trained from is not needed, and may be gone.
        "model": MODEL | {"encoder": MODEL["encoder"] | {"weights": "gone.npz"}},
        "data": {"image_size": SIZE, "max_len": 5},
        "task": {"length": LENGTH},
        "checkpoint": {"every": 1, "best": "dev/CIDEr-D"},
        "final": {"beam": 2, "length_penalty": 0.5},
    }
    (workdir / "config.json").write_text(json.dumps(config))
    return workdir, model, variables


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 255, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.{'jpg' if i else 'png'}")
    (folder / "torn.jpg").write_bytes((folder / "1.jpg").read_bytes()[:200])
    return folder


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
    images = [load(Path(f).read_bytes, f, SIZE) for f in (files[0], files[2], files[4])]
    options = dict(beam=2, length=LENGTH, length_penalty=0.5)
    decode = jax.jit(functools.partial(caption, model, **options))
    want = decode(variables, jnp.stack(images))["tokens"][:, 0]
    tokenizer = Tokenizer.load(workdir / "vocabulary.json")
    said = [tokenizer.decode(row) for row in want.tolist()]
    assert out.splitlines() == [
        f"{f}: {s}" for f, s in zip((files[0], files[2], files[4]), said, strict=True)
    ]
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


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--workdir=nowhere"], "nowhere/config.json cannot be read"),
        (["--workdir={}", "--checkpoint=9"], "no step 9"),
        (["--workdir={}", "--checkpoint=newest"], "use best, latest or a step"),
        (["--workdir={}", "--decode", "forced=zebra"], '"zebra" has a word that is not in'),
        (["--workdir={}", "--decode", "consensus=true"], "consensus=true weighs words by"),
        (["--workdir={}", "--ensemble=nowhere"], "nowhere/config.json cannot be read"),
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
