"""`python -m metrics`: COCO files in, a table or JSON out, one sentence for bad input."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from metrics.__main__ import main

FIXTURE = json.loads(Path(__file__).with_name("fixture.json").read_text())
RESULTS = [{"image_id": int(k), "caption": v[0]} for k, v in FIXTURE["res"].items()]
ANNOTATIONS = {
    "images": [{"id": int(k)} for k in FIXTURE["gts"]],
    "annotations": [
        {"image_id": int(k), "caption": text}
        for k, texts in FIXTURE["gts"].items()
        for text in texts
    ],
}


@pytest.fixture
def run(tmp_path, capsys):
    """run(results, annotations, *flags) -> (exit code, stdout, stderr); str is written as is."""

    def call(results, annotations, *flags):
        paths = []
        for name, content in (("results.json", results), ("annotations.json", annotations)):
            path = tmp_path / name
            if content is not None:
                path.write_text(content if isinstance(content, str) else json.dumps(content))
            paths.append(str(path))
        code = main([*paths, *flags])
        return code, *capsys.readouterr()

    return call


def test_table_and_signature(run):
    code, out, err = run(RESULTS, ANNOTATIONS)
    assert (code, err) == (0, "")
    for text in ("5 captions", "CIDEr-D", "2.2469", "0.6211", "0.7275", "0.3494", "tok:ptb|"):
        assert text in out


def test_json_and_left_out_images(run):
    code, out, err = run(RESULTS[:2], ANNOTATIONS, "--json")
    content = json.loads(out)
    assert code == 0
    assert "3 of 5 annotated images have no result" in err
    assert content["ids"] == [0, 1]
    assert content["left_out"] == 3
    assert content["per_image"]["CIDEr-D"][0] == pytest.approx(3.18495, abs=1e-5)


def test_as_a_program(tmp_path):
    for name, content in (("r", RESULTS), ("a", ANNOTATIONS)):
        (tmp_path / name).write_text(json.dumps(content))
    command = [sys.executable, "-m", "metrics", str(tmp_path / "r"), str(tmp_path / "a")]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert (done.returncode, done.stderr) == (0, "")
    assert "CIDEr-D:n4,sigma6,df:refs" in done.stdout


@pytest.mark.parametrize(
    ("results", "annotations", "message"),
    [
        (None, ANNOTATIONS, "results.json: cannot be read"),
        (RESULTS, None, "annotations.json: cannot be read"),
        ("{", ANNOTATIONS, "results.json: isn't JSON"),
        ({}, ANNOTATIONS, "results.json: must be [{"),
        ([], ANNOTATIONS, "holds no captions"),
        ([{"image_id": 1}], ANNOTATIONS, 'entry 0 has no "caption"'),
        ([{"image_id": 1, "caption": 5}], ANNOTATIONS, "wrong type"),
        ([RESULTS[0], RESULTS[0]], ANNOTATIONS, "image 0 has more than one caption"),
        ([{"image_id": 77, "caption": "x"}], ANNOTATIONS, "has no image 77"),
        ([{"image_id": "1", "caption": "x"}], ANNOTATIONS, "has no image '1' of"),
        (RESULTS, RESULTS, 'has no "annotations"'),
        (RESULTS, {"annotations": [{"caption": "x"}]}, 'has no "image_id"'),
        (RESULTS, {"images": [3], "annotations": []}, 'has no "id"'),
        (RESULTS, {**ANNOTATIONS, "annotations": []}, "image 0 has no reference captions"),
    ],
)
def test_bad_input(run, results, annotations, message):
    code, out, err = run(results, annotations)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_wordnet_folder_must_be_one(run, tmp_path):
    code, _, err = run(RESULTS, ANNOTATIONS, "--wordnet", str(tmp_path))
    assert code == 2
    assert "isn't a WordNet dictionary" in err
