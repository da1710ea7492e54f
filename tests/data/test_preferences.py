"""Preference pairs: what batches hold, splits that keep prompts together, and every bad line."""

import collections
import json

import numpy as np
import pytest

from data import synthetic_preferences as made_up
from data.preferences import Preferences
from data.tokenizer import BOS, EOS, PAD

LINES = [
    {"prompt": "name a colour", "chosen": "red", "rejected": "seven", "split": "train"},
    {"prompt": "", "chosen": "a very long answer", "rejected": "no", "split": "train"},
    {"prompt": "count", "chosen": "one two", "rejected": "red", "split": "val"},
]


def write(folder, lines):
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines) + "\n")
    return str(path)


def test_batches_hold_prompts_and_framed_answers(tmp_path):
    data = Preferences(path=write(tmp_path, LINES), batch_size=2, max_len=3, max_prompt=2)
    assert data.sizes == {"train": 2, "dev": 1}
    rows = next(data.one_pass("train"))
    assert rows["prompt"].shape == (2, 2) and rows["chosen"].shape == (2, 1, 5)
    words = data.tokenizer
    assert words.words(rows["prompt"][0]) == ["a", "colour"]  # the end of a long prompt
    assert (rows["prompt"][1] == PAD).all()
    red, cut = rows["chosen"][:, 0].tolist()
    assert red == [BOS, *words.encode("red"), EOS, PAD, PAD]
    assert cut == [BOS, *words.encode("a very long"), PAD]  # a cut answer has no end
    dev = next(data.one_pass("dev", 3))
    assert dev["index"].tolist() == [0, -1, -1] and (dev["rejected"][1:] == PAD).all()
    assert "2 texts cut" in data.describe()


def test_batches_are_functions_of_seed_and_step(tmp_path):
    options = dict(words=3, length=2, pairs=(30, 2))
    data = Preferences(source="synthetic_preferences", options=options, batch_size=8)
    stream = data.batches(seed=1)
    several = [next(stream) for _ in range(5)]
    later = next(data.batches(seed=1, start=4))
    halves = [next(data.batches(seed=1, start=4, process=p, processes=2)) for p in (0, 1)]
    for name, rows in later.items():
        np.testing.assert_array_equal(rows, several[4][name])
        np.testing.assert_array_equal(rows, np.concatenate([h[name] for h in halves]))
    seen = np.concatenate([b["index"] for b in several])[:30]
    assert sorted(seen) == list(range(30))  # every pair once an epoch
    assert (next(data.batches(seed=2))["index"] != several[0]["index"]).any()


def test_the_chosen_answers_alone_are_for_likelihood(tmp_path):
    data = Preferences(path=write(tmp_path, LINES), answers="chosen", max_len=4)
    pairs = Preferences(path=write(tmp_path, LINES), max_len=4)
    rows, both = next(data.one_pass("train")), next(pairs.one_pass("train"))
    assert rows.keys() == {"prompt", "tokens", "index"}
    np.testing.assert_array_equal(rows["tokens"], both["chosen"])


def test_a_prompt_is_in_one_split_alone(tmp_path):
    lines = [
        {"prompt": f"prompt {i % 60}", "chosen": f"good {i}", "rejected": f"bad {i}"}
        for i in range(240)
    ]
    data = Preferences(path=write(tmp_path, lines))
    of = collections.defaultdict(set)
    for split in data.sizes:
        for pair in data.pairs(split):
            of[pair.prompt].add(split)
    assert sum(data.sizes.values()) == 240 and all(len(s) == 1 for s in of.values())
    assert min(data.sizes["train"], data.sizes["dev"]) > 0
    same = [line | {"prompt": ""} for line in lines]  # one prompt: by the line then
    sizes = Preferences(path=write(tmp_path, same)).sizes
    assert sizes["train"] > 190 and sizes["dev"] > 2


GOOD = '{"prompt": "p", "chosen": "a", "rejected": "b", "split": "train"}'


@pytest.mark.parametrize(
    "line, said",
    [
        ('{"prompt": "p", "chosen": "a"}', r'pairs.jsonl:2 has no "rejected"'),
        ('{"chosen": "a", "rejected": "b"}', r'pairs.jsonl:2 has no "prompt"'),
        (
            '{"prompt": "p", "chosen": "a", "rejected": "a "}',
            r'pairs.jsonl:2 prefers "a" to itself',
        ),
        ('{"prompt": "p", "chosen": " ", "rejected": "b"}', r'pairs.jsonl:2 has an empty "chosen"'),
        ('{"prompt": "p", "chosen": "a", "rejected": 3}', r"pairs.jsonl:2 .*not text: 3"),
        ('{"prompt": "p", "chosen": "a", "rejected": "A!"}', r"pairs.jsonl:2 .*the same tokens"),
        ('{"prompt": "p", "chosen": "a", "rejected": "?"}', r"pairs.jsonl:2 .*without words"),
        ("[1]", r"pairs.jsonl:2 is no object"),
        ("{", r"pairs.jsonl:2 is not JSON"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, said):
    path = write(tmp_path, [GOOD, line])
    with pytest.raises(ValueError, match=said):
        Preferences(path=path)
    data = Preferences(path=path, on_error="skip")
    assert data.sizes["train"] == 1 and "left out      1 pairs" in data.describe()


def test_other_errors_name_the_key(tmp_path):
    path = write(tmp_path, LINES)
    with pytest.raises(ValueError, match='data.answers="both"'):
        Preferences(path=path, answers="both")
    with pytest.raises(ValueError, match='no pairs of a split "test"; use one of train, dev'):
        Preferences(path=path).pairs("test")
    with pytest.raises(ValueError, match="data.max_len=0"):
        Preferences(path=path, max_len=0)
    with pytest.raises(ValueError, match="is a folder"):
        Preferences(path=str(tmp_path))


def test_made_up_choices_follow_bradley_and_terry():
    options = dict(words=3, length=1, prompts=("more",), pairs=(6_000,), scale=1.0)
    pairs = made_up.read(**options).splits["train"]
    for a, b in (("ash", "birch"), ("ash", "cedar")):
        gap = made_up.utility("more", b, 3) - made_up.utility("more", a, 3)
        won, lost = (
            sum(p.chosen == x and p.rejected == y for p in pairs) for x, y in ((b, a), (a, b))
        )
        assert abs(won / (won + lost) - 1 / (1 + np.exp(-gap))) < 0.03
    right = np.mean([p.utility[0] > p.utility[1] for p in pairs])
    assert abs(right - made_up.bayes(pairs)) < 0.02
    # Three equally likely pairs of words: enumerated.
    assert abs(made_up.bayes(pairs) - np.mean([1 / (1 + np.exp(-g)) for g in (1, 1, 2)])) < 0.005
    assert made_up.utility("less", "ash cedar cedar", 3) == -1.0
    assert len(list(made_up.texts(3, 2))) == 12
