"""Your own labels, a handful of examples of each, and texts to be labelled: nothing is trained.

python -m serving.classify --workdir=runs/few --support=examples.jsonl "where is my card" "hello"
python -m serving.classify --config=configs/fewshot_intents.py --support=examples.jsonl < texts.txt

examples.jsonl has a line {"text": .., "label": ..} for each example. With --config an experiment
is used as it starts: good where its encoder is pretrained, or counts words.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

import experiment
from data import labelled_text
from data.columns import text_column
from data.episodes import Episodes
from data.tokenizer import UNK
from evaluators.run import read_flags
from training.guard import read_config
from training.setup import compilation_cache

Ranking = list[tuple[str, float]]  # labels with their probability, the likeliest first
FEW, MANY = 8, 64  # texts at once: two programs serve any number
NONE = "(none of these)"
# What a vocabulary and the length of texts depend on; the rest of a data section is about training.
KEPT = ("tokenizer", "vocab_size", "max_len", "lengths", "ways")


class Classifier:
    """Labels texts by the examples of their labels.

    task, variables  of a few-shot run, as experiment.restore gives them
    examples         label -> its texts, one or more
    """

    def __init__(
        self,
        task: Any,
        variables: Any,
        tokenizer: Any,
        examples: Mapping[str, Sequence[str]],
        *,
        max_len: int = 32,
    ):
        if len(examples) < 2:
            raise ValueError(
                f"the examples have {len(examples)} label; give those of two labels at least."
            )
        if empty := [label for label, texts in examples.items() if not texts]:
            raise ValueError(f'the label "{empty[0]}" has no example; give it one or leave it out.')
        self.labels = [*examples, NONE]  # the last only of tasks that know none of the above
        self.tokenizer, self.max_len, self._variables = tokenizer, max_len, variables
        shown = [text for texts in examples.values() for text in texts]
        label = np.repeat(np.arange(len(examples)), [len(texts) for texts in examples.values()])
        tokens = text_column(shown, tokenizer, max_len).tokens
        self._support = {"tokens": tokens, "label": label.astype(np.int32)}
        self._present = np.ones(len(examples), bool)
        self._run = jax.jit(task.predictors()["classify"])

    def __call__(self, texts: Sequence[str]) -> list[Ranking]:
        """Every label with its probability, for each text. Raises ValueError for an empty one."""
        found: list[Ranking] = []
        size = FEW if len(texts) <= FEW else MANY
        for start in range(0, len(texts), size):
            found += self._some(texts[start : start + size], size)
        return found

    def _some(self, texts: Sequence[str], size: int) -> list[Ranking]:
        tokens = text_column(texts, self.tokenizer, self.max_len).tokens
        tokens = np.concatenate([tokens, np.zeros((size - len(texts), self.max_len), np.int32)])
        tokens[len(texts) :, 0] = UNK  # a text without any token might divide by its length
        query = {"tokens": tokens, "label": np.zeros(size, np.int32)}
        episode = {"support": self._support, "query": query, "present": self._present}
        logits = self._run(self._variables, episode)[: len(texts)]
        rows = np.asarray(jax.nn.softmax(logits, axis=1))
        rankings = []
        for row in rows:
            order = [k for k in np.argsort(-row) if k < len(self.labels)]
            known = [k for k in order if k < len(self._present) or row[k] > 0]
            rankings.append([(self.labels[k], float(row[k])) for k in known])
        return rankings

    def is_unknown(self, text: str) -> bool:
        """Whether no word of it is in the vocabulary, so that its label is a guess."""
        return set(self.tokenizer.encode(text)) == {UNK}


def read_examples(path: str) -> dict[str, list[str]]:
    """label -> texts of a file of labelled lines. Raises OSError or ValueError."""
    found: dict[str, list[str]] = {}
    for row in labelled_text.read(path).rows:
        found.setdefault(row.label, []).append(row.value)
    return found


def classifier(
    support: str,
    *,
    workdir: str = "",
    config: str = "",
    checkpoint: str = "best",
    overrides: Mapping[str, str] | None = None,
) -> Classifier:
    """Of a trained run, or of an experiment as it starts. Raises ValueError or OSError.

    Without data.path the words of an experiment that counts them are those of the examples.
    """
    examples = read_examples(support)
    if workdir:
        section = read_config(workdir)["data"]
        _check_texts(section, f"--workdir={workdir}")
        vocabulary = pathlib.Path(workdir) / "vocabulary.json"
        data = _as_data(section | {"tokenizer": str(vocabulary)}, support, len(examples))
        which = int(checkpoint) if checkpoint.isdigit() else checkpoint
        how = dict(checkpoint=which, overrides=overrides, data=data, evals=False)
        built, variables, _ = experiment.restore(workdir, **how)
    else:
        c, own = experiment.read_experiment(config), None
        _check_texts(c.data, f"--config={config}")
        if not (overrides or {}).get("data.path", c.data.get("path")):
            own = _as_data(c.data.to_dict(), support, len(examples))
        built, variables, _ = experiment.untrained(c, overrides=overrides, data=own)
    length = built.config.data.get("max_len", 32)
    return Classifier(built.task, variables, built.data.tokenizer, examples, max_len=length)


def _check_texts(section: Mapping[str, Any], where: str) -> None:
    if section["type"] not in ("episodes", "labelled_rows") or "image_size" in section:
        raise ValueError(f"{where} is not about few-shot labels of texts; choose one that is.")


def _as_data(section: Mapping[str, Any], path: str, labels: int) -> Episodes:
    """The examples as the data of a run: all their labels to be learned from."""
    kept = {k: section[k] for k in KEPT if k in section}
    kept = {k: tuple(v) if isinstance(v, list) else v for k, v in kept.items()}
    return Episodes(source="labelled_text", path=path, class_counts=(labels, 0, 0), **kept)


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    parser = argparse.ArgumentParser(
        prog="python -m serving.classify",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="--config.KEY=VALUE changes a value of the config, e.g. --config.data.path",
    )
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="or the lines of standard input")
    by = parser.add_mutually_exclusive_group(required=True)
    by.add_argument("--workdir", default="", help="folder of a trained few-shot run")
    by.add_argument("--config", default="", metavar="FILE", help="an experiment, untrained")
    parser.add_argument("--support", required=True, metavar="FILE", help="examples, JSON lines")
    parser.add_argument("--checkpoint", default="best", help="best | latest | STEP (best)")
    parser.add_argument("--top", type=int, default=3, help="labels shown of each text (3)")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    return read_flags(parser, arguments)


def _blocks(flags: argparse.Namespace) -> Iterator[list[str]]:
    """The texts, so many at once; a person who types them is answered line by line."""
    if flags.texts:
        yield flags.texts
        return
    lines = (line.strip() for line in sys.stdin)
    lines, size = (line for line in lines if line), 1 if sys.stdin.isatty() else MANY
    while block := list(itertools.islice(lines, size)):
        yield block


def _print(found: Iterable[tuple[str, Ranking]], as_json: bool) -> None:
    if as_json:
        for text, ranking in found:
            top = [{"label": label, "probability": round(p, 6)} for label, p in ranking]
            line = {"text": text, **top[0], "top": top}
            print(json.dumps(line, ensure_ascii=False), flush=True)
        return
    table = Table(header_style="bold")
    for name in ("text", "label", "probability", "else"):
        table.add_column(name, justify="right" if name == "probability" else "left")
    for text, [(label, p), *others] in found:
        rest = ", ".join(f"{name} {q:.2f}" for name, q in others if q >= 0.005)
        table.add_row(*map(_plain, (text, label, f"{p:.2f}", rest)))
    Console().print(table)


def _plain(text: str) -> str:
    """As it is: a text may hold what rich takes for markup."""
    return text.replace("[", r"\[")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 with one sentence on stderr."""
    flags, overrides = _parse(sys.argv[1:] if arguments is None else arguments)
    compilation_cache()
    try:
        how = dict(workdir=flags.workdir, config=flags.config, checkpoint=flags.checkpoint)
        with contextlib.redirect_stdout(sys.stderr):  # where weights come from is no answer
            made = classifier(flags.support, overrides=overrides, **how)
        for texts in _blocks(flags):
            rankings = [ranking[: max(flags.top, 1)] for ranking in made(texts)]
            for text in filter(made.is_unknown, texts):
                said = f'no word of "{text}" is known here: its label is a guess'
                print(f"serving.classify: {said}", file=sys.stderr)
            _print(zip(texts, rankings, strict=True), flags.json)
    except (ValueError, OSError) as error:
        print(f"serving.classify: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
