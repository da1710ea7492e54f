"""Labelled texts with domains: tasks like "is this review of a book a good one?"."""

import json

import numpy as np
import pytest

from data.episodes import Episodes
from data.labelled_text import read

DOMAINS, LABELS = ("books", "films", "games", "music", "tools"), ("negative", "positive")


def write(path, records):
    path.write_text("\n".join(map(json.dumps, records)))
    return str(path)


@pytest.fixture
def path(tmp_path):
    rows = [
        {"text": f"{domain} {label} {i}", "label": label, "domain": domain}
        for i in range(6)
        for domain in DOMAINS
        for label in LABELS
    ]
    return write(tmp_path / "full.jsonl", rows)


def test_a_task_is_of_one_domain_and_no_domain_is_in_two_splits(path):
    data = Episodes(source="labelled_text", path=path, ways=2, queries=2, within_groups=True)
    domains = {
        split: {name.split("/")[0] for name in data.classes(split)}
        for split in ("train", "dev", "test")
    }
    assert [len(of) for of in domains.values()] == [3, 1, 1]
    assert set.union(*domains.values()) == set(DOMAINS)
    assert all(len(data.classes(split)) == 2 * len(of) for split, of in domains.items())
    plan, seen, first = data.plan("train", data.shape, 0), set(), set()
    for index in range(40):
        names = [data.classes("train")[c] for c in plan.draw(index).classes]
        (domain,) = {name.split("/")[0] for name in names}
        assert {name.split("/")[1] for name in names} == set(LABELS)
        seen, first = seen | {domain}, first | {names[0]}
    assert seen == domains["train"] and len(first) == 6, "either label may be the class 0"
    batch = next(data.batches(seed=0))
    assert batch["support"]["label"].shape == (4, 2) and np.all(batch["present"])


def test_domains_are_listed_as_classes_are(path, tmp_path):
    folder = tmp_path / "class_splits" / "01"
    folder.mkdir(parents=True)
    for name, found in (("train", DOMAINS[:3]), ("valid", DOMAINS[3:4]), ("test", DOMAINS[4:])):
        (folder / f"labels.{name}.txt").write_text("\n".join(found))
    data = Episodes(source="labelled_text", path=str(tmp_path), class_split="01", ways=2)
    assert data.classes("test") == ("tools/negative", "tools/positive")


@pytest.mark.parametrize("first", [0, 1])
def test_every_row_has_a_domain_or_none_has(tmp_path, first):
    rows = [{"text": "a", "label": "x"}, {"text": "b", "label": "x", "domain": "books"}]
    rows = rows[first:] + rows[:first]
    with pytest.raises(ValueError, match='rows.jsonl:2 has a "domain" or none, unlike the first'):
        read(write(tmp_path / "rows.jsonl", rows))
