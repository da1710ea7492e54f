"""`python -m serving.classify`: labels of one's own from a handful of examples, nothing trained."""

import io
import json

import jax
import numpy as np
import pytest

import experiment
from serving import classify
from tests.few_shot_run import config, save_run, write_config
from tests.few_shot_texts import write_texts

COUNTING = dict(type="bag", vectors="onehot", weighting="idf")
EXAMPLES = {
    "delivery": ["where is my parcel", "the parcel is late"],
    "refund": ["i want my money back"],
    "account": ["reset my password", "i forgot the password"],
}
ASKED = {"my parcel": "delivery", "money back please": "refund", "a new password": "account"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Examples, an experiment that counts words, and a run that learned from other texts."""
    place = tmp_path_factory.mktemp("classify")
    rows = [{"text": t, "label": label} for label, texts in EXAMPLES.items() for t in texts]
    (place / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "one.jsonl").write_text(json.dumps(rows[0]) + "\n")
    (place / "empty.jsonl").write_text('{"text": " ", "label": "refund"}\n')
    (place / "bare.jsonl").write_text('{"label": "refund"}\n')
    write_texts(place)
    save_run(place / "run", config(place))
    write_config(place / "counting.py", "", COUNTING)
    return place


@pytest.fixture
def told(place, capsys):
    """Runs the command: (exit code, output, errors)."""

    def run(*words, by="--config=counting.py", support="mine.jsonl"):
        name, _, file = by.partition("=")
        code = classify.main([f"{name}={place / file}", f"--support={place / support}", *words])
        return code, *capsys.readouterr()

    return run


def test_an_experiment_that_counts_words_needs_no_run(told):
    code, out, err = told("--json", *ASKED)
    assert code == 0 and not err
    lines = [json.loads(line) for line in out.splitlines()]
    assert {line["text"]: line["label"] for line in lines} == ASKED
    for line in lines:
        assert sorted(x["label"] for x in line["top"]) == sorted(EXAMPLES)
        shares = [x["probability"] for x in line["top"]]
        assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1, abs=1e-5)
        assert line["probability"] == shares[0] > 0.4
    code, out, _ = told("my [bold]parcel", "--top=1")
    assert code == 0 and "my [bold]parcel" in out and "delivery" in out and "refund" not in out


def test_standard_input_is_read_line_by_line(told, monkeypatch):
    lines = [*ASKED, "", *(f"{text} {i}" for i in range(7) for text in ASKED)]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    code, out, _ = told("--json", "--top=1")
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [x["text"] for x in found] == [line for line in lines if line]
    assert [x["label"] for x in found] == list(ASKED.values()) * 8
    assert all(len(x["top"]) == 1 for x in found)


def test_a_run_keeps_its_words_and_says_what_it_does_not_know(told, place):
    code, out, err = told("word1 number", "parcel", "--json", by="--workdir=run")
    assert code == 0 and len(out.splitlines()) == 2
    assert err.count("\n") == 1 and 'no word of "parcel" is known here' in err
    made = classify.classifier(str(place / "mine.jsonl"), workdir=str(place / "run"))
    built, _, _ = experiment.restore(place / "run", evals=False)
    assert made.tokenizer.hash == built.data.tokenizer.hash


def classifier(place, examples, **task):
    c = config(place, **task)
    built, variables, _ = experiment.untrained(c)
    return classify.Classifier(
        built.task, variables, built.data.tokenizer, examples, max_len=c.data.max_len
    )


def test_how_many_texts_are_asked_at_once_changes_nothing(place):
    examples = {"a": ["word1 of c1", "word2 of c1"], "b": ["number 3"], "c": ["word3 number 4"]}
    made = classifier(place, examples, type="ridge", penalty=0.3)
    texts = [f"word{k % 4} number {k}" for k in range(11)]
    together = made(texts)  # padded to 64
    alone = [made([text])[0] for text in texts]  # padded to 8
    for a, b in zip(together, alone, strict=True):
        assert [label for label, _ in a] == [label for label, _ in b]
        np.testing.assert_allclose([p for _, p in a], [p for _, p in b], atol=1e-5)


def test_an_adapted_head_serves_as_many_labels_as_it_has_and_says_so_beyond(place):
    task = dict(type="maml", inner_lr=0.5, inner_steps=3, start="prototypes")
    made = classifier(place, {"x": ["word1 word1"], "y": ["number number"]}, **task)
    [(label, p), (_, q)] = made(["number 3 number"])[0]
    assert label == "y" and p + q == pytest.approx(1, abs=1e-5)  # its third class has nothing
    four = {f"label {k}": [f"word{k}"] for k in range(4)}
    with pytest.raises(ValueError, match="tells 3 classes apart, but the episode has 4"):
        classifier(place, four, **task)(["word1"])


def test_none_of_these_is_an_answer_where_it_was_learned(place):
    task = dict(type="protonet", distance="cosine", scale=10.0, none_of_the_above=True)
    made = classifier(place, {"x": ["word1 word1"], "y": ["number number"]}, **task)
    made._variables["params"]["scalars"]["threshold"] = jax.numpy.float32(100.0)
    assert made(["word2"])[0][0] == (classify.NONE, pytest.approx(1.0))


@pytest.mark.parametrize(
    "words, options, said",
    [
        (["hi"], dict(support="one.jsonl"), "have 1 label; give those of two"),
        (["hi"], dict(support="empty.jsonl"), "empty.jsonl:1 has an empty text"),
        (["hi"], dict(support="bare.jsonl"), 'bare.jsonl:1 has no "text" and "label"'),
        (["hi"], dict(support="gone.jsonl"), "gone.jsonl"),
        (["hi", ""], {}, 'the text "" has no words'),
        (["hi"], dict(by="--workdir=gone"), "gone/config.json does not exist"),
        (["hi"], dict(by="--config=gone.py"), "there is no such file"),
        (["hi", "--config.data.max_length=3"], {}, "config.data.max_length is unknown"),
    ],
)
def test_errors_are_one_sentence(told, words, options, said):
    code, out, err = told(*words, **options)
    assert code == 2 and not out and said in err
    assert err.rstrip("\n").count("\n") == 0


def test_labels_need_examples(place):
    with pytest.raises(ValueError, match='the label "b" has no example'):
        classifier(place, {"a": ["word1"], "b": []})


def test_runs_about_other_things_are_refused(place, capsys):
    support = f"--support={place / 'mine.jsonl'}"
    for file in ("meta_sinusoid", "captioning_shapes"):
        assert classify.main([f"--config=configs/{file}.py", support, "hi"]) == 2
        assert "is not about few-shot labels of texts" in capsys.readouterr().err
