"""`python -m evaluators.run` on few-shot runs: splits, domains, pairs, sentences."""

import json

import numpy as np
import pytest

import experiment
from data.tokenizer import Tokenizer
from evaluators import run, run_episodes
from metrics.intervals import interval
from tests.few_shot_run import config, save_run, write_config
from tests.few_shot_texts import write_texts
from training.guard import read_config

FIXED = dict(type="bag", vectors="fixed", weighting="idf", width=32)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with texts, those of another domain, a run and an experiment that needs none."""
    place = tmp_path_factory.mktemp("few")
    write_texts(place)
    (place / "other").mkdir()
    other = (place / "full.jsonl").read_text().replace(" of c", " in c").replace("word", "term")
    (place / "other" / "full.jsonl").write_text(other)
    save_run(place / "run", config(place))
    save_run(place / "again", config(place))
    write_config(place / "fixed.py", place, FIXED)
    (place / "class_splits" / "02").mkdir()
    for name, numbers in (("train", range(4, 10)), ("valid", range(1)), ("test", range(1, 4))):
        lines = "".join(f"c{c}\n" for c in numbers)
        (place / "class_splits" / "02" / f"labels.{name}.txt").write_text(lines)
    return place


def call(*words):
    return run_episodes.run(*run_episodes.parse([str(word) for word in words]))


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_split_that_the_run_does_not_evaluate_gets_a_row_and_lines(place, tmp_path, capsys):
    out = tmp_path / "deep" / "a.jsonl"
    flags = [f"--workdir={place / 'run'}", "--split=test", "--episodes=6", f"--out={out}"]
    assert run.main([*flags, "--ways=4", "--shots=2", "--seed=5"]) == 0
    said = capsys.readouterr().out
    found = read(out)
    assert [line["index"] for line in found] == list(range(6))
    assert all(line["of"] == "4-way 2-shot" for line in found)
    assert {c for line in found for c in line["classes"]} == {"c6", "c7", "c8", "c9"}
    assert str(interval([line["accuracy"] for line in found])) in said
    for part in ("step 2", "4-way 2-shot", "5 queries a class, 6 episodes of test, seed 5", "6 ep"):
        assert part in said
    assert max(len(line) for line in said.splitlines() if "│" in line) <= 80
    assert "balanced" not in said  # the accuracy once more


def test_class_splits_and_their_mean_and_paired_differences(place, tmp_path, capsys):
    out = tmp_path / "a.jsonl"
    shape = ["--class_splits=01,02", "--split=test", "--episodes=5", "--shots=1-2", "--ways=3"]
    rows = call(f"--config={place / 'fixed.py'}", *shape, f"--out={out}")
    assert list(rows) == ["01 · 3-way 1–2-shot", "02 · 3-way 1–2-shot"]
    said, found = capsys.readouterr().out, read(out)
    assert "random weights" in said
    both = interval([line["accuracy"] for line in found])
    assert f"mean · 3-way 1–2-shot │ {both}" in said
    assert {c for line in found[5:] for c in line["classes"]} == {"c1", "c2", "c3"}
    # The same experiment on the same episodes: no difference at all.
    call(f"--config={place / 'fixed.py'}", *shape, f"--against={out}")
    said = capsys.readouterr().out
    assert said.count("0.0000 ± 0.0000") == 3 and "leaves 0 out: nowhere" in said
    # Another: the mean of the differences.
    better = tmp_path / "b.jsonl"
    lines = [line | {"accuracy": line["accuracy"] - 0.25} for line in found]
    better.write_text("".join(json.dumps(line) + "\n" for line in lines))
    call(f"--config={place / 'fixed.py'}", *shape, f"--against={better}")
    said = capsys.readouterr().out
    assert said.count("0.2500 ± 0.0000") == 3 and "mean · 3-way 1–2-shot" in said.split("out:")[1]


def test_several_runs_are_named_apart(place):
    runs = f"--workdir={place / 'run'},{place / 'again'}"
    rows = call(runs, "--episodes=4")
    assert list(rows) == ["run · 3-way 1-shot", "again · 3-way 1-shot"]
    a, b = rows.values()
    np.testing.assert_array_equal(a.each["accuracy"], b.each["accuracy"])
    with pytest.raises(ValueError, match="names a run twice"):
        call(f"--workdir={place / 'run'},{place / 'run'}")


def test_another_domain_meets_the_words_and_counts_of_the_run(place, tmp_path):
    other = {"data.path": str(place / "other"), "data.class_split": ""}
    other["data.class_counts"] = "(0,0,10)"  # a key that the run's config leaves to its default
    built, variables, step = experiment.restore(place / "run", overrides=other, evals=False)
    assert step == 2 and built.evals == {}
    own = Tokenizer.load(place / "run" / "vocabulary.json")
    assert built.data.tokenizer.hash == own.hash
    _, at_home, _ = experiment.restore(place / "run")
    weights = [v["stats"]["encoder"]["weight"] for v in (variables, at_home)]
    np.testing.assert_array_equal(*weights)
    assert np.ptp(weights[0]) > 0.5  # as in the training texts, not as where nothing was counted
    row = call(
        f"--workdir={place / 'run'}", "--split=test", "--episodes=4", "--ways=10",
        *[f"--config.{key}={value}" for key, value in other.items()],
    )["10-way 1-shot"]  # fmt: skip
    assert len(row.names) == 10


def test_the_size_of_a_head_stays_with_the_run(place, tmp_path):
    task = dict(type="maml", inner_lr=0.1, inner_steps=1)
    workdir = save_run(tmp_path / "maml", config(place, **task))
    assert read_config(workdir)["model"]["ways"] == 3
    flags = ["--episodes=3", "--ways=2", "--config.data.ways=2", "--options", "inner_steps=0"]
    [found] = call(f"--workdir={workdir}", *flags).values()
    assert found.title == "2-way 1-shot" and found.options == {"inner_steps": 0}
    assert found.each["prediction"].max() == 1  # the head's third class is out of reach


@pytest.mark.parametrize(
    "flags, said",
    [
        ("--workdir=RUN --ways=9", 'the split "dev" has 3 classes, but ways=9'),
        ("--workdir=RUN --split=val", 'no classes in a split "val"; use train, dev, test'),
        ("--workdir=RUN --options inner_steps=2", 'ProtoNet takes no "inner_steps"'),
        ("--workdir=RUN --options inner_steps=many", "inner_steps=many: write NAME=NUMBER"),
        ("--workdir=RUN --class_splits=01", "--class_splits goes with --config"),
        ("--workdir=RUN --against=gone.jsonl", "gone.jsonl"),
        ("--workdir=RUN --against=BAD", "bad.jsonl:2 is no line that --out writes"),
        ("--workdir=RUN --episodes=2 --against=A", "has 3 episodes, here are 2"),
        ("--workdir=RUN --episodes=3 --against=A", "a.jsonl:1 is of another episode"),
        ("--workdir=RUN --config.data.clas_split=02", "did you mean config.data.class_split"),
        ("--config=configs/gone.py", "there is no such file"),
        ("--config=configs/captioning_shapes.py", "has no episodes to score"),
    ],
)
def test_errors_are_one_sentence(place, tmp_path, capsys, flags, said):
    (tmp_path / "bad.jsonl").write_text('{"rows": "x"}\n[1, 2\n')
    (tmp_path / "a.jsonl").write_text('{"rows": "x"}\n' * 3)
    names = {"RUN": place / "run", "BAD": tmp_path / "bad.jsonl", "=A": f"={tmp_path / 'a.jsonl'}"}
    for name, value in names.items():
        flags = flags.replace(name, str(value))
    assert run.main(flags.split()) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "flags, said",
    [
        ("--workdir=RUN --beam=3", "--beam is for captioning runs"),
        ("--workdir=gone --episodes=3", "--episodes is for few-shot runs"),
        ("--workdir=RUN --shots=few", "few is neither a number nor a range such as 1-5"),
        ("--workdir=RUN --episods=3", "unknown argument --episods=3"),
        ("--split=dev", "--workdir"),
    ],
)
def test_flags_that_do_not_apply_are_named(place, capsys, flags, said):
    with pytest.raises(SystemExit) as stop:
        run.main(flags.replace("RUN", str(place / "run")).split())
    assert stop.value.code == 2 and said in capsys.readouterr().err


def test_one_pair_has_no_shuffled_row():
    own = dict(test=dict(type="sequence_episodes", split="test", shots=20))
    own["control"] = own["test"] | dict(shuffled=True)
    for shots, names in (("1", ["test"]), ("5", ["test", "control"])):
        words = ["--workdir=runs/few", "--split=test", f"--shots={shots}"]
        flags, _ = run_episodes.parse(words)
        assert list(run_episodes.sections(own, flags)) == names
