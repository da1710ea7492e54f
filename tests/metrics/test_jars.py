"""The Java programs: a sentence where they cannot run, the real METEOR where it is installed."""

import importlib.util
import json
import os
import shutil
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from metrics import jars
from metrics.__main__ import main
from metrics.score import score

CANDIDATES = ["a dog runs on grass", "two men ride"]
REFERENCES = [["the dog is running on the grass", "a dog runs"], ["two people ride bikes"]]
# Stands for `java`: answers METEOR's lines on stdin, writes what SPICE would into its file.
FAKE = """#!{python}
import json, sys
given = sys.argv[1:]
if "-out" in given:
    rows = json.load(open(given[given.index("-silent") - 3]))
    scored = [{{"image_id": r["image_id"], "scores": {{"All": {{"f": 0.1 + r["image_id"]}}}}}}
              for r in reversed(rows)]
    json.dump(scored, open(given[given.index("-out") + 1], "w"))
for line in sys.stdin if "-out" not in given else ():
    parts = line.strip().split(" ||| ")
    if parts[0] == "SCORE":
        print(len(parts), "statistics")
    else:
        print("\\n".join(["0.5"] * (len(parts) - 1) + ["0.25"]))
"""


@pytest.fixture
def java(tmp_path, monkeypatch):
    """A folder first on the PATH with a stand-in for Java."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "java"
    program.write_text(FAKE.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.delenv(jars.VARIABLE, raising=False)
    return program


@pytest.fixture
def folder(tmp_path):
    """pycocoevalcap's layout, without CoreNLP."""
    for jar in (jars.METEOR, jars.SPICE):
        place = tmp_path / "caps" / jar.split("-")[0]
        place.mkdir(parents=True)
        (place / jar).write_bytes(b"")
    return tmp_path / "caps"


def test_meteor_alone_where_spice_lacks_its_parser(java, folder):
    found, [note] = jars.jar_scores(str(folder), CANDIDATES, REFERENCES)
    assert list(found) == ["METEOR.jar (exact+stem+synonym)"]
    whole, each = found.popitem()[1]
    assert whole == 0.25 and each.tolist() == [0.5, 0.5]
    assert note.startswith("SPICE is left out: it needs stanford-corenlp-3.6.0.jar and")
    assert "does not download" in note


def test_spice_with_its_parser_and_meteor_with_paraphrases(java, folder, monkeypatch):
    (folder / "spice" / "lib").mkdir()
    for name in jars.CORENLP:
        (folder / "spice" / "lib" / name).write_bytes(b"")
    (folder / "meteor" / "data").mkdir()
    (folder / "meteor" / "data" / "paraphrase-en.gz").write_bytes(b"")
    monkeypatch.setenv(jars.VARIABLE, str(folder))
    found, notes = jars.jar_scores("", CANDIDATES, REFERENCES)
    assert notes == [] and next(iter(found)).endswith("+paraphrase)")
    whole, each = found["SPICE.jar"]
    np.testing.assert_allclose(each, [0.1, 1.1])  # by image id, in whatever order it answers
    assert whole == pytest.approx(0.6)


def test_sentences_where_nothing_can_run(java, folder, tmp_path, monkeypatch):
    def refused(where, said):
        with pytest.raises(ValueError, match=said):
            jars.jar_scores(where, CANDIDATES, REFERENCES)

    refused("", f"set {jars.VARIABLE}")
    refused(str(tmp_path / "bin"), "has no meteor-1.5.jar.*has no spice-1.0.jar")
    java.write_text("#!/bin/sh\necho 'Exception: no memory' >&2\necho '  at X.y' >&2\nexit 1\n")
    refused(str(folder), "METEOR's jar failed: Exception: no memory")
    monkeypatch.setenv("PATH", str(tmp_path))
    refused(str(folder), "no java on the PATH")


def test_the_command_shows_the_jar_beside_our_own(java, folder, tmp_path, capsys):
    rows = [{"image_id": i, "caption": text} for i, text in enumerate(CANDIDATES)]
    pairs = [{"image_id": i, "caption": t} for i, texts in enumerate(REFERENCES) for t in texts]
    for name, content in (("r", rows), ("a", {"annotations": pairs})):
        (tmp_path / name).write_text(json.dumps(content))
    paths = [str(tmp_path / "r"), str(tmp_path / "a")]
    assert main([*paths, "--jars", str(folder), "--json"]) == 0
    out, err = capsys.readouterr()
    content = json.loads(out)
    assert content["corpus"]["METEOR.jar (exact+stem+synonym)"] == 0.25
    assert len(content["per_image"]["METEOR.jar (exact+stem+synonym)"]) == 2
    assert err.startswith("warning: SPICE is left out") and err.count("\n") == 1
    assert main([*paths, "--jars"]) == 2
    assert capsys.readouterr().err == (
        f"error: --jars needs a folder: --jars=DIR, or set {jars.VARIABLE} to it\n"
    )


def test_the_real_jar_gives_our_meteor():
    where = os.environ.get(jars.VARIABLE, "")
    package = importlib.util.find_spec("pycocoevalcap")
    if not where and package:
        where = str(Path(package.submodule_search_locations[0]))
    if not where or not shutil.which("java"):
        pytest.skip(f"needs Java, and {jars.VARIABLE} or pycocoevalcap")
    whole, each = jars.meteor(Path(where), CANDIDATES, REFERENCES, "exact stem")[1]
    pairs = dict(enumerate(CANDIDATES)), dict(enumerate(REFERENCES))
    ours = score(*pairs, tokenizer="none", metrics=["meteor"])
    assert ours.corpus["METEOR"] == pytest.approx(whole, abs=1e-9)
    np.testing.assert_allclose(ours.per_image["METEOR"], each, atol=1e-9)
