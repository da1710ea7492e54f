"""Captions a split and scores it: the evaluator that runs inside training and behind every CLI.

The decoding is one compiled program: the last batch is padded by the data and its padding dropped.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from data import search_options
from metrics.score import Scores, score

EOS = 2  # the special ids are the same in every vocabulary
READ = ("image", "features", "source", "index")  # columns of a batch that decoding reads
COUNTED = "CIDEr-D"  # the score that orders images from best to worst


@dataclasses.dataclass(frozen=True)
class Decoded:
    """The captions of a split, in its order.

    ids        image ids, n of them
    every      [n, N, T] int32, the N captions of an image, best first; EOS then PAD
    captions   id -> the best caption
    attention  [n, T, S] float16, where each token looked, or None
    """

    ids: list[Hashable]
    every: np.ndarray
    captions: dict[Hashable, str]
    attention: np.ndarray | None = None

    @property
    def tokens(self) -> np.ndarray:
        """[n, T], of the best captions."""
        return self.every[:, 0]


@dataclasses.dataclass(frozen=True)
class Example:
    """One captioned image as a person sees it; `attention` [T, S] or [T, h, w] fits `words`."""

    image: np.ndarray  # uint8 [H, W, 3]
    caption: str
    references: Sequence[str] = ()
    words: Sequence[str] = ()
    attention: np.ndarray | None = None
    score: float | None = None
    name: str = ""
    tags: Sequence[str] = ()  # what seems to have gone wrong


def _host(x: jax.Array) -> np.ndarray:
    """The whole array on this host, also where its rows live on several."""
    if getattr(x, "is_fully_addressable", True):
        return np.asarray(jax.device_get(x))
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(x, tiled=True))


def decode(
    predict: Callable[[Any, Mapping], Mapping],
    variables: Any,
    data: Any,
    split: str,
    batch_size: int,
    limit: int = 0,
    put: Callable[[Mapping], Mapping] = jax.device_put,
    language: str = "",
    **look: Any,
) -> Decoded:
    """Captions the first `limit` images of a split (0 = all).

    predict  jitted (variables, batch) -> tokens [B, N, T], best first, and attention [B, T, S]
    put      host batch -> device batch
    language that `predict` writes, where the vocabulary has several
    look     further options of the data's one_pass
    """
    ids = list(data.image_ids(split))
    ids = ids[:limit] if limit else ids
    if not ids:
        raise ValueError(f"split {split!r} holds no images, so there is nothing to caption.")
    every = attention = None

    def collect(index: jax.Array, out: Mapping) -> None:
        nonlocal every, attention
        index = _host(index)
        real = (index >= 0) & (index < len(ids))
        found = _host(out["tokens"])
        if every is None:
            every = np.zeros((len(ids), *found.shape[1:]), np.int32)
        every[index[real]] = found[real]
        if out.get("attention") is not None:
            looked = _host(out["attention"])
            if attention is None:
                attention = np.zeros((len(ids), *looked.shape[1:]), np.float16)
            attention[index[real]] = looked[real]

    waiting = None
    process, processes = jax.process_index(), jax.process_count()
    passes = data.one_pass(split, batch_size, process=process, processes=processes, **look)
    for _, batch in zip(range(math.ceil(len(ids) / batch_size)), passes, strict=False):
        # Reference tokens stay behind: their length varies between buckets, which would recompile.
        batch = put({k: v for k, v in batch.items() if k in READ})
        out = predict(variables, batch)
        if waiting is not None:  # read one batch late: images are decoded while the device works
            collect(*waiting)
        waiting = batch["index"], out
    if waiting is not None:
        collect(*waiting)
    text = functools.partial(data.tokenizer.decode, language=language)
    captions = {i: text(rows[0].tolist()) for i, rows in zip(ids, every, strict=True)}
    return Decoded(ids, every, captions, attention)


def _language(data: Any, split: str, language: str) -> str:
    """The language an evaluator is about. Raises ValueError where nobody could score it."""
    known = getattr(data, "languages", ())
    if language and language not in known:
        raise ValueError(
            f'evals.*.language="{language}" is not among data.language={",".join(known)}; name one '
            "of those or add it there."
        )
    several = data.tokenizer.languages
    if not several:
        return language
    language = language or several[0]
    if data.references(split) and not data.references(split, language):
        raise ValueError(
            f'evals.*.language="{language}": the split {split!r} has no captions in that language, '
            "only in others; add them to data.path or leave this evaluator out."
        )
    return language


class Captions:
    """Decodes a split and scores it against its references.

    predict     (variables, batch, **search) -> tokens, attention: `decode` of a task
    every       steps between two runs in training; 0: only at the end
    tokenizer   ptb | characters | none, of the scores; characters for Chinese
    language    that is written and scored where the data have several; "" = their first
    search      further options of the decoding, as data/search_options.py lists them
    limit       images that are scored, 0 = all
    mesh        devices that share the batch
    After `run`, `decoded` and `scores` hold what it found, for samples and the report.
    """

    summary, wants, counted = "summary", "decode", COUNTED

    def __init__(
        self,
        predict: Callable,
        data: Any,
        *,
        split: str = "dev",
        every: int = 1000,
        batch_size: int = 32,
        metrics: tuple[str, ...] = ("bleu", "rouge_l", "cider_d"),
        tokenizer: str = "ptb",
        language: str = "",
        beam: int = 1,
        length_penalty: float = 0.7,
        search: dict | None = None,
        limit: int = 0,
        mesh: Any = None,
    ):
        if split not in data.sizes:
            raise ValueError(f"no split {split!r} in the data, which has {', '.join(data.sizes)}.")
        self.data, self.split, self.every, self.limit = data, split, every, limit
        self.metrics, self.tokenizer = tuple(metrics), tokenizer
        self.batch_size, self.put, self.gathered = batch_size, jax.device_put, lambda tree: tree
        if mesh is not None:
            from training.sharding import gathered, put_batch

            rows = mesh.shape["data"] * mesh.shape["fsdp"]
            self.batch_size = -(-batch_size // rows) * rows
            self.put = functools.partial(put_batch, mesh=mesh)
            self.gathered = functools.partial(gathered, mesh=mesh)
        self.language = _language(data, split, language)
        self._pure = predict
        self.decoding(beam=beam, length_penalty=length_penalty, **(search or {}))
        self.decoded: Decoded | None = None
        self.scores: Scores | None = None

    @property
    def scoring(self) -> dict[str, Any]:
        """Keywords of another evaluator that scores as this one does."""
        return {"metrics": self.metrics, "tokenizer": self.tokenizer}

    def decoding(self, **search: Any) -> None:
        """Another search from now on: greedy while training, say, and a beam for the table.

        Raises ValueError for what is not an option, or words that the vocabulary lacks.
        """
        start, words = {}, self.data.tokenizer
        options = search_options.ready(search, words, self.language)
        self.beam = options.get("beam", 1)
        self._look = {"images": True} if options.get("mirror") else {}
        if words.languages:
            # An argument, not a constant: evaluators of other languages find the program compiled.
            start, options["unsaid"] = {"bos": np.int32(words.bos(self.language))}, words.unsaid
        predict = jax.jit(functools.partial(self._pure, **options))
        self._predict = functools.partial(predict, **start)

    def run(self, variables: Any) -> dict[str, float]:
        """Captions the split; returns {metric: value}, empty where it has no references."""
        self.decoded = decode(
            self._predict, self.gathered(variables), self.data, self.split, self.batch_size,
            self.limit, self.put, self.language, **self._look,
        )  # fmt: skip
        self.scores = self.score(self.decoded.captions)
        return dict(self.scores.corpus) if self.scores else {}

    def several(self) -> dict[Hashable, list[str]]:
        """All captions of the last run, best first: id -> the N of a beam or of samples."""
        text = functools.partial(self.data.tokenizer.decode, language=self.language)
        rows = zip(self.decoded.ids, self.decoded.every, strict=True)
        # PAD first: the search found fewer than N captions.
        return {i: [text(row.tolist()) for row in each if row[0]] for i, each in rows}

    def yardsticks(self) -> list[tuple[str, dict[str, float]]]:
        """Further rows (name, {metric: value}) that the model is read against."""
        return []

    def all_references(self, split: str) -> dict[Hashable, list[str]]:
        """What people wrote about a split, in the language of this evaluator."""
        if self.data.tokenizer.languages:
            return self.data.references(split, self.language)
        return self.data.references(split)

    def references(self) -> dict[Hashable, list[str]]:
        """The references of the images that are scored."""
        ids = list(self.data.image_ids(self.split))
        found = self.all_references(self.split)
        return {i: found[i] for i in (ids[: self.limit] if self.limit else ids) if found.get(i)}

    def score(
        self, results: Mapping[Hashable, str], references: Mapping | None = None
    ) -> Scores | None:
        """Scores any results with this evaluator's metrics, so that table rows are comparable."""
        references = self.references() if references is None else references
        if not references:
            return None
        results = {i: results[i] for i in references}
        return score(results, references, tokenizer=self.tokenizer, metrics=self.metrics)

    def pick(self, n: int, which: str = "spread") -> list[int]:
        """Positions of n images: `spread` evenly over the split, or the `best` or `worst` ones."""
        total = len(self.decoded.ids)
        n = min(n, total)
        if which == "spread":
            return [i * total // n for i in range(n)]
        if self.scores is None or self.counted not in self.scores.per_image:
            return []
        order = np.argsort(self.scores.per_image[self.counted], kind="stable")
        order = order[:n] if which == "worst" else order[::-1][:n]
        place = {image_id: i for i, image_id in enumerate(self.decoded.ids)}
        return [place[self.scores.ids[k]] for k in order]

    def examples(self, positions: Sequence[int]) -> list[Example]:
        """Images of the last run beside their caption, references, attention and score."""
        references = self.all_references(self.split)
        values = {}
        if self.scores and COUNTED in self.scores.per_image:
            values = dict(zip(self.scores.ids, self.scores.per_image[COUNTED], strict=True))
        found = []
        for i in positions:
            image_id, row = self.decoded.ids[i], self.decoded.tokens[i].tolist()
            row = row[: row.index(EOS)] if EOS in row else row
            looked = self.decoded.attention
            found.append(
                Example(
                    image=self.data.image(self.split, i),
                    caption=self.decoded.captions[image_id],
                    references=tuple(references.get(image_id, ())),
                    words=tuple(self.data.tokenizer.words(row)),
                    attention=None if looked is None else looked[i, : len(row)].astype(np.float32),
                    score=float(values[image_id]) if image_id in values else None,
                    name=str(image_id),
                )
            )
        return found
