"""Where the words of a run's captions come from, asked of the task: maps for any decoder.

Decoders with attention have shown where they looked while decoding; the others are explained by
the task's predictor "explain" (rollout or gradient), a few images at a time.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from evaluators.captions import Captions, Example

BATCH = 8


def explained(
    evaluator: Captions,
    positions: Sequence[int],
    predictors: Mapping[str, Callable],
    variables: Any,
    *,
    how: str = "auto",
) -> list[Example]:
    """Examples of the evaluator's last run whose `attention` [T, S] is the map that `how` names.

    predictors  of a task: "maps" says what the decoder offers, best first; "explain" computes it.
    how         auto (the best) | rollout | attention | gradient. Without those predictors, the
                attention of decoding. Raises ValueError for what the decoder cannot give.
    """
    examples = evaluator.examples(positions)
    if "explain" not in predictors or not examples:
        return examples
    how = predictors["maps"](variables)[0] if how == "auto" else how
    if how == "attention" and examples[0].attention is not None:
        return examples
    tokens, words = evaluator.decoded.tokens, evaluator.data.tokenizer
    start = {"bos": words.bos(evaluator.language)} if words.languages else {}
    explain = jax.jit(functools.partial(predictors["explain"], how=how, **start))
    found: list[Example] = []
    for first in range(0, len(examples), BATCH):
        # The last batch repeats its first image, so that there is one shape to compile.
        rows = [*positions[first : first + BATCH]]
        rows += rows[:1] * (BATCH - len(rows))
        images = np.stack([evaluator.data.image(evaluator.split, i) for i in rows])
        maps = explain(variables, {"image": images, "tokens": tokens[np.array(rows)][:, None]})
        maps = np.asarray(maps, np.float32)[:, 0]
        for example, looked in zip(examples[first : first + BATCH], maps, strict=False):
            looked = looked[: len(example.words)]
            found.append(dataclasses.replace(example, attention=looked))
    return found
