"""One call for every caption metric: tokenise once, count once, sign with the settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from metrics.bleu import bleu
from metrics.cider import cider, cider_d
from metrics.corpus import Corpus
from metrics.diversity import diversity
from metrics.ptb import tokenize
from metrics.rouge import rouge_l

VERSION = "1"
DEFAULT = ("bleu", "rouge_l", "cider_d", "cider", "diversity")
TOKENIZERS = {
    "ptb": tokenize,
    "characters": lambda text: " ".join("".join(text.split())),
    "none": lambda text: text,
}
SIGNED = {
    "bleu": "BLEU:coco,closest",
    "rouge_l": "ROUGE-L:coco,beta1.2",
    "cider_d": "CIDEr-D:n4,sigma6,df=refs",
    "cider": "CIDEr:n4,df=refs",
    "diversity": "distinct:1-2",
}


@dataclasses.dataclass(frozen=True)
class Scores:
    """corpus: {name: value}; per_image: {name: [M]} in the order of ids; signature: settings."""

    corpus: dict[str, float]
    per_image: dict[str, np.ndarray]
    ids: list[Hashable]
    signature: str


def score(
    results: Mapping[Hashable, str],
    references: Mapping[Hashable, Sequence[str]],
    *,
    tokenizer: str = "ptb",
    metrics: Sequence[str] = DEFAULT,
) -> Scores:
    """Scores each result {id: caption} against references {id: captions}.

    Raises ValueError for an unknown metric or tokenizer, no results, or a result without reference.
    """
    for given, known, key in ((tokenizer, TOKENIZERS, "tokenizer"), *((m, SIGNED, "metric")
                              for m in metrics)):  # fmt: skip
        if given not in known:
            raise ValueError(f"unknown {key} {given!r}; known: {', '.join(known)}.")
    if not results:
        raise ValueError("there are no results to score.")
    ids = list(results)
    if missing := [i for i in ids if not references.get(i)]:
        raise ValueError(f"{len(missing)} results have no reference, the first is {missing[0]!r}.")
    cut = TOKENIZERS[tokenizer]
    hypotheses = [cut(results[i]) for i in ids]
    corpus = Corpus(hypotheses, [[cut(r) for r in references[i]] for i in ids])
    whole, each = {}, {}
    if "bleu" in metrics:
        total, single = bleu(corpus)
        whole |= {f"BLEU-{n + 1}": float(total[n]) for n in range(4)}
        each |= {f"BLEU-{n + 1}": single[n] for n in range(4)}
    for key, name, function in (("rouge_l", "ROUGE-L", rouge_l), ("cider_d", "CIDEr-D", cider_d),
                                ("cider", "CIDEr", cider)):  # fmt: skip
        if key in metrics:
            each[name] = function(corpus)
            whole[name] = float(each[name].mean())
    if "diversity" in metrics:
        whole |= diversity(hypotheses)
    signed = " | ".join(SIGNED[m] for m in metrics)
    return Scores(whole, each, ids, f"capax-metrics:{VERSION} | tok:{tokenizer} | {signed}")
