"""What a policy says, by each term of its reward: one page on which reward hacking is seen.

    python -m rewards.inspect --workdir=runs/rl-shapes --split=dev --out=inspect.html
    python -m rewards.inspect --workdir=runs/rl-shapes --against=runs/shapes

Texts are sampled as in training. The best and the worst of every term are shown, and those that
one term likes much better than the others do. Beside the terms stand numbers that nobody rewarded:
words, repeated words, whether the text ended. --against: a run that samples the same inputs, such
as the one that this one started from.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

EOS, PAD = 2, 0
SHOWN = 6  # texts of each list
UNREWARDED = ("words", "repeated", "ended")


class Sample(NamedTuple):
    """One sampled text."""

    text: str
    input: str  # a source text, or the data URI of a picture
    picture: bool
    references: list[str]
    scores: Mapping[str, float]  # of every term, the total and what nobody rewarded


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """This command's flags."""
    parser = argparse.ArgumentParser(
        prog="python -m rewards.inspect",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workdir", required=True, help="a run of tasks/text_rl.py or its kin")
    parser.add_argument("--against", default="", help="another run on the same inputs")
    parser.add_argument("--split", default="dev", help="(dev)")
    parser.add_argument("--inputs", type=int, default=100, help="how many (100)")
    parser.add_argument("--n", type=int, default=4, help="texts of each (4)")
    parser.add_argument("--seed", type=int, default=0, help="of the samples (0)")
    parser.add_argument("--out", default="", help="(WORKDIR/inspect.html)")
    return parser.parse_args(arguments)


def sampled(run: Any, variables: Any, flags: argparse.Namespace) -> list[Sample]:
    """All texts of a run. Raises ValueError where its task has no rewards."""
    import jax

    found = run.task.predictors()
    if "best_of" not in found:
        raise ValueError(f"--workdir={flags.workdir} was not trained by rewards; see configs/rl_*.")
    data = run.data
    rate = jax.jit(lambda v, b: found["best_of"](v, b, n=flags.n, seed=flags.seed))
    ids, samples = data.image_ids(flags.split), []
    written = data.references(flags.split)
    for batch in data.one_pass(flags.split):
        told = jax.device_get(rate(variables, batch))
        for row, index in enumerate(batch["index"].tolist()):
            if index < 0 or index >= flags.inputs:
                continue
            shown = _input(data, flags.split, index, batch, row)
            for n in range(flags.n):
                tokens = told["tokens"][row, n]
                scores = {k: float(v[row, n]) for k, v in told["terms"].items()}
                scores = {"total": float(told["score"][row, n])} | scores | unrewarded(tokens)
                text = data.tokenizer.decode(tokens.tolist())
                samples.append(Sample(text, *shown, written.get(ids[index], []), scores))
        if int(batch["index"].max()) + 1 >= flags.inputs:
            break
    return samples


def _input(data: Any, split: str, index: int, batch: Mapping, row: int) -> tuple[str, bool]:
    """(what a text answers, whether it is a picture)."""
    from evaluators.page import photo

    if "source" in batch:
        return data.tokenizer.decode(batch["source"][row].tolist()), False
    return photo(data.image(split, index)), True


def unrewarded(tokens: np.ndarray) -> dict[str, float]:
    """Of tokens [T]: how many words, the share of them said before, whether it ended by itself."""
    ends = np.flatnonzero((tokens == EOS) | (tokens == PAD))
    words = tokens[: ends[0]] if len(ends) else tokens
    repeated = 1 - len(set(words.tolist())) / max(len(words), 1)
    values = float(len(words)), repeated, float((tokens == EOS).any())
    return dict(zip(UNREWARDED, values, strict=True))


def lists(samples: Sequence[Sample], term: str, others: Sequence[str]) -> dict[str, list[Sample]]:
    """{title: texts}: the best and worst of a term, each text once, and what only it likes."""
    once = list({s.text: s for s in samples}.values())
    order = sorted(once, key=lambda s: -s.scores[term])
    found = {f"Highest {term}": order[:SHOWN], f"Lowest {term}": order[: -SHOWN - 1 : -1]}
    if others:
        rank = {name: _ranks([s.scores[name] for s in once]) for name in (term, *others)}
        gap = rank[term] - np.mean([rank[name] for name in others], axis=0)
        chosen = np.argsort(-gap)[:SHOWN]
        found[f"Liked by {term} alone"] = [once[i] for i in chosen if gap[i] > 0]
    return found


def _ranks(values: Sequence[float]) -> np.ndarray:
    """0 (least) to 1 (most), equal values alike."""
    _, rank = np.unique(values, return_inverse=True)
    return rank / max(rank.max(), 1)


def overview(samples: Sequence[Sample], before: Sequence[Sample]) -> list[dict[str, Any]]:
    """Each number's mean, that of the other run, and how it goes with the total and the length."""
    rows = []
    for name in samples[0].scores:
        values = np.array([s.scores[name] for s in samples])
        row = {"name": name, "mean": values.mean(), "deviation": values.std()}
        row["before"] = np.mean([s.scores[name] for s in before]) if before else None
        for other in ("total", "words"):
            row[f"with {other}"] = _correlation(values, [s.scores[other] for s in samples])
        rows.append(row)
    return rows


def _correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Pearson's, or None where one of them does not vary."""
    return float(np.corrcoef(a, b)[0, 1]) if np.std(a) > 1e-9 and np.std(b) > 1e-9 else None


def write(path: pathlib.Path, samples: list[Sample], before: list[Sample], facts: Mapping) -> None:
    """The page. Raises ValueError where nothing was sampled."""
    from evaluators.page import write_page

    if not samples:
        raise ValueError("--inputs: no text was sampled; choose 1 or more.")
    terms = [n for n in samples[0].scores if n not in ("total", *UNREWARDED)]
    names = terms if len(terms) > 1 else ["total"]
    sections = [
        {"term": name, "lists": lists(samples, name, [t for t in terms if t != name])}
        for name in names
    ]
    texts = [s.text for s in samples]
    share = len(set(texts)) / len(texts)
    write_page(
        path, "inspect.html.j2", facts=facts, title="What the rewards reward",
        rows=overview(samples, before), sections=sections, share=share, compared=bool(before),
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    import experiment

    flags = parse(arguments)
    try:
        run, variables, step = experiment.restore(flags.workdir, splits=(flags.split,), evals=False)
        samples, before = sampled(run, variables, flags), []
        if flags.against:
            other, theirs, _ = experiment.restore(flags.against, data=run.data, evals=False)
            other.task = run.task  # the same rewards and decoding, the other run's weights
            before = sampled(other, theirs, flags)
        out = pathlib.Path(flags.out or pathlib.Path(flags.workdir) / "inspect.html")
        facts = {"subtitle": f"{flags.workdir}, step {step}, {flags.split}"}
        facts["samples"] = f"{len(samples):,} texts, {flags.n} of each of {flags.inputs} inputs"
        write(out, samples, before, facts)
    except (ValueError, OSError) as error:
        print(f"rewards.inspect: {error}", file=sys.stderr)
        return 1
    print(f"{out}: {len(samples):,} texts by {len(samples[0].scores) - 4} terms of the reward")
    return 0


if __name__ == "__main__":
    sys.exit(main())
