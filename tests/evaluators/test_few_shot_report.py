"""The report of a few-shot run: what it counts is right, its page complete, and safe to open."""

import io
import json

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from data.caption_episodes import CaptionEpisodes
from data.classes import Row
from data.episodes import Episodes as Data
from data.sinusoids import Sinusoids
from data.translation_episodes import TranslationEpisodes
from evaluators import few_shot, few_shot_examples, few_shot_report
from evaluators.episodes import Episodes
from evaluators.few_shot_charts import histogram
from evaluators.sequence_episodes import SequenceEpisodes
from metrics.intervals import Interval
from tests import tiny_data, tiny_parallel
from tests.evaluators.test_report import Page
from tests.few_shot_texts import write_texts

EVIL = '</li><script>alert("x")</script>'
HISTORY = [{"step": s, "loss": 2 - s / 99, "accuracy": s / 99, "lr": 1e-3} for s in range(0, 99, 9)]
HISTORY += [
    {"step": s, "dev/accuracy": s / 150, "dev/accuracy ±": 0.01, "dev/balanced": s / 150}
    for s in (50, 98)
]


def told(variables, batch):
    """Right in three of four queries; what is wrong is taken for the next class."""
    label, index = batch["query"]["label"], batch["index"][:, None]
    slot = jnp.arange(label.shape[1])[None]
    real, right = label >= 0, (slot + index) % 4 < 1 + index % 4
    said = jnp.where(real, jnp.where(right, label, (label + 1) % 3), -1)
    share = (right & real).sum(1) / real.sum(1)
    return {"accuracy": share, "balanced": share, "loss": 1 - share, "prediction": said}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = write_texts(tmp_path_factory.mktemp("texts"))
    return Data(source="labelled_text", path=str(folder), class_split="01", ways=3)


def evaluator(data, predict=told, **options):
    shape = dict(split="dev", ways=3, shots=2, queries=6, episodes=24, batch_size=24)
    return Episodes(predict, data, **(shape | options))


def finish(tmp_path, evaluators, **options):
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in HISTORY))
    facts = {"command": "python train.py", "start-up": "line one\nline two"}
    few_shot.finish(evaluators, {}, tmp_path, title="t", facts=facts, **options)
    text = (tmp_path / "report.html").read_text("utf-8")
    return Page(text), text


def test_the_page_is_complete_and_asks_nobody(tmp_path, data, capsys):
    several = {"dev": evaluator(data), "dev5": evaluator(data, shots=5)}
    page, text = finish(tmp_path, several)
    assert page.classes.count("tile") == 2 and page.classes.count("episode") == 3
    assert page.tags.count("svg") == 2 + 4 - 1  # spread; loss, accuracy, lr: `balanced` is accuracy
    mean = several["dev"].each["accuracy"].mean()
    for said in (f"{100 * mean:.1f}", "chance 33 %", "3-way 5-shot", "24 episodes of dev", "c4"):
        assert said in page.text
    for said in ("A typical episode", "line two", "python train.py", "for c"):
        assert said in page.text
    assert all(a.startswith(("#", "data:")) for a in page.addresses)
    assert "prefers-color-scheme: dark" in text and "@import" not in text and "<link" not in text
    printed = capsys.readouterr().out
    assert f"report: {tmp_path / 'report.html'}" in printed and "balanced" not in printed
    assert "dev5  3-way 5-shot, 6 queries a class, 24 episodes of dev, seed 0" in printed


def test_what_is_read_is_what_was_scored(data):
    made = evaluator(data)
    made.run({})
    found = few_shot_examples.examples(made)
    assert [e["title"] for e in found] == [title for title, _ in few_shot_examples.EXAMPLES]
    shares = [e["accuracy"] for e in found]
    assert shares == sorted(shares, reverse=True) and shares[0] > shares[2]
    for e in found:
        asked = [x for g in e["groups"] for x in g["asked"]]
        assert len(asked) == 18 and all(len(g["shown"]) == 2 for g in e["groups"])
        assert np.mean([x["right"] for x in asked]) == pytest.approx(e["accuracy"])
        names = [g["name"] for g in e["groups"]]
        for g in e["groups"]:
            following = names[(names.index(g["name"]) + 1) % 3]
            assert {x["said"] for x in g["asked"] if not x["right"]} <= {following}


def test_texts_cannot_break_the_page(tmp_path, data):
    made = evaluator(data, episodes=3)
    made.run({})
    row = made.drawn[0].support[0]
    old, data.rows[row] = data.rows[row], Row(EVIL, data.rows[row].label)
    try:
        page, _ = finish(tmp_path, {"dev": made})
    finally:
        data.rows[row] = old
    assert "script" not in page.tags and EVIL in page.text


def test_strangers_are_a_group_of_their_own(data):
    made = evaluator(data, split="test", ways=3, none_of_the_above=0.2, episodes=4, batch_size=4)
    made.run({})
    groups = few_shot_examples.examples(made)[0]["groups"]
    assert groups[-1]["name"] == few_shot_examples.NONE and not groups[-1]["shown"]
    assert len(groups[-1]["asked"]) == round(0.2 * 18)
    assert few_shot_report.chance(made) == pytest.approx(1 / 4)


def test_images_are_shown_as_images(data):
    made = evaluator(data, episodes=3, batch_size=3)
    made.run({})
    texts = data.rows
    data.columns["image"] = np.zeros((len(texts), 4, 4, 1), np.uint8)
    data.rows = [Row(lambda: b"", row.label) for row in texts]
    try:
        shown = few_shot_examples.examples(made)[0]["groups"][0]["shown"]
    finally:
        data.rows = texts
        del data.columns["image"]
    assert all(x["image"].startswith("data:image/png;base64,") for x in shown)


def test_curves_are_drawn_before_and_after_their_steps(tmp_path):
    data = Sinusoids(batch_size=2)
    truth = lambda variables, batch: {"mse": (batch["query"]["y"] ** 2).mean((1, 2))}  # noqa: E731

    def by_steps(variables, episode, steps):
        return jnp.stack([episode["query"]["y"] * (k / 10) for k in steps])

    made = Episodes(truth, data, split="dev", shots=5, queries=20, episodes=6, batch_size=6)
    page, _ = finish(tmp_path, {"dev": made}, predictors={"by_steps": by_steps}, episodes=6)
    assert "Before and after" in page.text and "after 10 steps 0" in page.text
    assert page.tags.count("svg") == 1 + 3 + 6 and "What is hard" not in page.text
    assert few_shot_report._pictures(made, {}, {}) == []  # of methods without steps


def echo(variables, batch):
    """Writes the true text of every other query, and nothing of the rest."""
    tokens = batch["query"]["tokens"][:, :, 0, 1:]
    tokens = tokens * (jnp.arange(tokens.shape[1]) % 2 == 0)[:, None]
    return {"written": tokens, "loss": jnp.ones(len(tokens))}


def test_written_texts_stand_beside_their_inputs_and_references(tmp_path):
    path = tiny_parallel.write(tmp_path / "data")
    tasks = dict(train=("en-de",), dev=("de-en",))
    data = TranslationEpisodes(path=str(path), tasks=tasks, reserved=12, vocab_size=600, max_len=12)
    shape = dict(split="dev", shots=9, queries=3, episodes=3, batch_size=3)
    made = SequenceEpisodes(echo, data, shuffled=True, **shape)
    page, _ = finish(tmp_path, {"dev": made})
    shown = few_shot_examples.written(made, "CIDEr-D")
    assert len(shown) == page.classes.count("episode") == 3 and "What it writes" in page.text
    for e in shown:
        drawn, said = made.drawn[e["index"]], made.written[e["index"]]
        assert e["task"] == "de-en" and e["more"] == 9 - len(e["pairs"])
        for pair, given, row in zip(e["pairs"], drawn.inputs, drawn.support, strict=False):
            assert pair == {"given": data.shown(given)[0], "text": data.texts[row]}
            assert pair["given"].startswith("die katze") and pair["text"] in page.text
        for k, x in enumerate(e["asked"]):
            assert x["text"] == said[k] == ("" if k % 2 else x["truths"][0].lower())
            assert x["truths"] == data.truths(drawn.query)[k] and x["given"] in page.text
    assert "(empty)" in page.text
    assert few_shot_report.said("BLEU-4", Interval(3e-10, 2e-10, 9)) == ("0.000", "± 0.000")
    assert few_shot_report.said("chrF", Interval(0.0874, 0.0123, 9)) == ("0.087", "± 0.012")


def test_images_of_written_texts_are_shown(tmp_path):
    path = tiny_data.flickr8k(tmp_path / "data")
    sizes = dict(reserved=4, image_size=64, min_count=1)
    tasks = dict(train=("en",), dev=("zh",))
    data = CaptionEpisodes(source="flickr8k", path=str(path), tasks=tasks, **sizes)
    made = SequenceEpisodes(echo, data, shots=1, queries=1, episodes=1, batch_size=1)
    made.run({})
    (e,) = few_shot_examples.written(made, "chrF")
    assert e["asked"][0]["photo"].startswith("data:image/jpeg;base64,")
    assert e["asked"][0]["given"] in data.captions.image_ids("dev") and e["score"] == "chrF 1.000"


def test_a_histogram_has_a_bar_for_each_value_and_colours_of_the_page():
    svg = histogram("h", np.array([0.2, 0.4, 0.4, 1.0]), share=True, chance=0.2)
    assert "var(--series-0)" in svg and "#0" not in svg.replace("#000", "")
    assert svg.count('style="fill: var(--series-0)') == 6  # 0, 20, ... 100 %
    for odd in (np.array([0.21, 0.4, 0.47]), np.full(5, 0.72), np.zeros(5)):  # no such grid
        svg = histogram("odd", odd, share=True)
        assert svg.count('style="fill: var(--series-0)') == 30


def test_the_table_keeps_every_digit_and_names_columns_once():
    file = io.StringIO()
    row = {"accuracy": Interval(0.5, 0.01, 9), "balanced": Interval(0.25, 0.01, 9)}
    rows = {"dev": row, "a rather long name of something": {"accuracy": Interval(0.75, 0, 9)}}
    few_shot.print_table(rows, ["a note of [brackets]"], Console(width=40, file=file))
    said = file.getvalue()
    for part in ("0.2500 ± 0.0100", "0.7500 ± 0.0000", "a note of [brackets]", "–", "balanced"):
        assert part in said
    many = {f"number {k}": Interval(k, 0.5, 9) for k in range(7)}
    few_shot.print_table({"dev": many}, console=Console(width=80, file=file))
    said = file.getvalue()
    assert said.count("0.5000 ") == 7 + 1 and all(name in said for name in many)
    assert said.count("┏") == 2 + 3 and max(map(len, said.splitlines()[-9:])) <= 80
    assert few_shot_report.said("accuracy", row["accuracy"]) == ("50.0", "± 1.0 %")
    assert few_shot_report.said("loss", Interval(0.4567, 0.0123, 9)) == ("0.457", "± 0.012")
