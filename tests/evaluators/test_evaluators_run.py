"""`python -m evaluators.run`: COCO results, the score table, sentences instead of tracebacks."""

import io
import json
import sys
import types

import pytest
from rich.console import Console

from evaluators import run
from evaluators.captions import Captions
from evaluators.summary import print_scores
from metrics import __main__ as metrics_command
from metrics.files import read_several


@pytest.fixture
def restored(monkeypatch, data, variables, make_predict):
    """A stand-in for train.restore; yields what it was asked."""
    asked = {}
    task = types.SimpleNamespace(predictors=lambda: {"decode": make_predict()})
    own = Captions(make_predict(), data, metrics=("rouge_l", "diversity"))
    built = types.SimpleNamespace(
        task=task, data=data, mesh=None, config={"final": {"beam": 2}}, evals={"dev": own}
    )

    def restore(workdir, checkpoint="best", overrides=None, splits=()):
        if workdir == "gone":
            raise ValueError("gone/config.json does not exist.")
        asked.update(workdir=workdir, checkpoint=checkpoint, overrides=overrides, splits=splits)
        return built, variables, 40

    fake = types.ModuleType("train")
    fake.restore = restore

    def restore_ensemble(workdirs, **kw):
        asked["members"] = workdirs
        return restore(workdirs[0], **kw)

    fake.restore_ensemble = restore_ensemble
    monkeypatch.setitem(sys.modules, "train", fake)
    return asked


def test_writes_coco_results_and_prints_the_table(restored, tmp_path, capsys, captions):
    out = tmp_path / "deep" / "results.json"
    flags = ["--workdir=w", "--split=dev", "--limit=6", f"--out={out}", "--checkpoint=20"]
    assert run.main([*flags, "--config.data.path=DIR", "--config.data.limit=3"]) == 0
    rows = json.loads(out.read_text("utf-8"))
    assert rows[1] == {"image_id": "dev_1.jpg", "caption": captions[1]} and len(rows) == 6
    assert restored["checkpoint"] == 20
    assert restored["splits"] == ("dev",)  # features of no other split are computed
    assert restored["overrides"] == {"data.path": "DIR", "data.limit": "3"}
    said = capsys.readouterr().out
    # The run's own metrics and beam, with the baselines that need no features.
    for part in ("ROUGE-L", "distinct-1", "step 40, beam 2", "random", "human", "6 captions"):
        assert part in said
    assert "BLEU-4" not in said and "nearest" not in said


def test_results_and_references_are_what_the_metrics_command_reads(restored, tmp_path, capsys):
    out, references = tmp_path / "results.json", tmp_path / "deep" / "annotations.json"
    files = [f"--out={out}", f"--references={references}"]
    assert run.main(["--workdir=w", "--split=dev", "--limit=6", *files]) == 0
    table = capsys.readouterr().out
    assert metrics_command.main([str(out), str(references), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == 6 and found["left_out"] == 0
    assert f"{found['corpus']['ROUGE-L']:.3f}" in table


def test_all_captions_of_a_beam_are_written_for_diversity(restored, tmp_path, capsys, captions):
    out = tmp_path / "all.json"
    assert run.main(["--workdir=w", "--limit=6", "--beam=3", "--all", f"--out={out}"]) == 0
    assert f"{out}: 18 captions" in capsys.readouterr().out
    found = read_several(str(out))
    assert list(found) == [f"dev_{i}.jpg" for i in range(6)]
    assert found["dev_1.jpg"] == [captions[1]] * 3


def test_a_split_without_references_gets_captions(restored, tmp_path, capsys):
    out = tmp_path / "results.json"
    assert run.main(["--workdir=w", "--split=test", "--beam=1", f"--out={out}"]) == 0
    assert len(json.loads(out.read_text("utf-8"))) == 4
    assert "test has no references: captions only, 4 of them" in capsys.readouterr().out


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--workdir=gone"], "gone/config.json does not exist."),
        (["--workdir=w", "--split=val"], "no split 'val' in the data, which has train, dev, test"),
        (["--workdir=w", "--beam=0"], "beam=0"),
        (["--workdir=w", "--out=/dev/null/x.json"], "/dev/null"),
        (["--workdir=w", "--split=test", "--references=x.json"], "the split 'test' has none"),
        (["--workdir=w", "--decode", "baem=3"], "did you mean beam?"),
        (["--workdir=w", "--decode", "forced=zebra"], '"zebra" has a word that is not in'),
    ],
)
def test_errors_are_one_sentence(restored, capsys, flags, said):
    assert run.main(flags) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_unknown_flags_are_named(restored, capsys):
    with pytest.raises(SystemExit) as stop:
        run.main(["--workdir=w", "--beem=3"])
    assert stop.value.code == 2 and "--beem=3" in capsys.readouterr().err


def test_wide_score_tables_go_on_in_further_ones():
    columns = [f"metric-number-{i}" for i in range(9)]
    file = io.StringIO()
    rows = [("dev: beam 3", dict.fromkeys(columns, 0.5)), ("dev: human", {columns[0]: 0.25})]
    print_scores(rows, "signature", Console(width=80, file=file))
    said = file.getvalue()
    assert max(map(len, said.splitlines())) <= 80 and all(c in said for c in columns)
    assert said.count("0.500") == 9 and said.count("0.250") == 1 and "signature" in said


def test_search_and_further_runs_are_passed_on(restored, capsys):
    flags = ["--workdir=w", "--ensemble=v,u", "--beam=4", "--decode", "length_penalty=1.5"]
    evaluator = run.run(*run.parse(flags))
    assert restored["members"] == ("w", "v", "u") and evaluator.beam == 4
    said = capsys.readouterr().out
    assert "decoding: length_penalty=1.5 with v,u" in said and "step 40, beam 4" in said
