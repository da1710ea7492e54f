"""The evaluator of pairs of texts: order, scores, what is shown of a run, and of summaries."""

import jax.numpy as jnp
import numpy as np
import pytest

from data import toy_texts
from data.text_pairs import TextPairs
from evaluators import texts
from evaluators.summaries import Summaries
from evaluators.translations import Translations
from tests import tiny_parallel


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tiny_parallel.write(tmp_path_factory.mktemp("pairs") / "texts")
    how = dict(tokenizer="bpe", cased=True, vocab_size=400, max_len=16, batch_size=5)
    return TextPairs(path=str(path), **how)


def answers(data, split="dev", change=lambda tokens: tokens):
    """A predictor that writes the references, changed; it finds them by what it reads."""
    known = [np.concatenate([b[k] for b in data.one_pass(split)]) for k in ("source", "tokens")]
    sources, tokens = jnp.asarray(known[0]), jnp.asarray(change(known[1][:, 0, 1:]))

    def predict(variables, batch, **options):
        row = (batch["source"][:, None] == sources).all(-1).argmax(1)
        return {"tokens": tokens[row][:, None] + variables["add"]}

    return predict


NOTHING = {"add": jnp.int32(0)}


def test_what_was_written_is_scored_in_order(data):
    evaluator = Translations(answers(data), data, batch_size=5)
    found = evaluator.run(NOTHING)
    assert found["sacreBLEU"] == pytest.approx(100) and found["chrF2"] == pytest.approx(100)
    assert found["words"] == 4 and "tok:13a" in evaluator.scores.signature
    assert [evaluator.decoded.captions[i] for i in range(12)] == [
        references[0] for references in data.references("dev").values()
    ]


def test_the_worst_pairs_are_those_of_little_overlap(data):
    def change(tokens):
        tokens = tokens.copy()
        tokens[7, :3] = tokens[7, 2::-1]  # three words turned round
        return tokens

    evaluator = Translations(answers(data, change=change), data, batch_size=5)
    assert evaluator.run(NOTHING)["sacreBLEU"] < 99
    assert evaluator.pick(1, "worst") == [7]
    pair = evaluator.examples([7])[0]
    assert pair.source == data.sources("dev")[7] and pair.score < 1
    assert pair.references == tuple(data.references("dev")[7])


def test_a_run_ends_with_a_table_and_a_page(data, tmp_path, capsys):
    evaluator = Translations(answers(data), data, batch_size=5, metrics=("bleu", "exact_match"))
    values = evaluator.run(NOTHING)
    said, picture = texts.show(evaluator, values, 3, "dev", tmp_path)
    assert picture is None and "sacreBLEU 100.000" in said and "die katze" in said
    texts.finish({"dev": evaluator}, NOTHING, tmp_path, title="a run", facts={}, beam=1)
    assert "sacreBLEU:nrefs:1|case:mixed" in capsys.readouterr().out.replace("\n", "")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert data.sources("dev")[0] in page and "exact match" in page


def test_wrong_options_are_sentences(data):
    with pytest.raises(ValueError, match=r"evals.\*.metrics names cider; use some of bleu, chrf"):
        Translations(answers(data), data, metrics=("cider",))
    with pytest.raises(ValueError, match="mirrored images"):
        Translations(answers(data), data, search={"mirror": True})


def test_summaries_are_measured_by_their_optimum(monkeypatch):
    monkeypatch.setattr(toy_texts, "COUNTS", {"train": 60, "dev": 30, "test": 2})
    data = TextPairs(
        source="toy_texts", path="summary", languages=("source", "target"), tokenizer="words",
        min_count=1, max_len=12, batch_size=16,
    )  # fmt: skip

    def shortened(tokens):
        """The first two marked words, which is the best of all where a further one costs 0.3."""
        kept = tokens.copy()
        kept[:, 2], kept[:, 3:] = 2, 0
        return kept

    best = Summaries(answers(data, change=shortened), data, target=2, per_word=0.3)
    assert best.run(NOTHING)["of the optimum"] == pytest.approx(1)
    everything = Summaries(answers(data), data, target=2, per_word=0.3)
    assert 0.7 < everything.run(NOTHING)["of the optimum"] < 0.99
    assert everything.scoring["per_word"] == 0.3
