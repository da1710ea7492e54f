"""Name map of static word vectors in one table: WordLlama and Model2Vec -> `bag`.

    model.encoder.type="bag"  model.encoder.weights="pypi:wordllama"

Ids are those of the tokenizer that comes with the vectors; its id 0 is padding here. The weights of
words and the layers of `mlp` are not in the file: weights_skip=("^weight$", "^layers/").
"""

from __future__ import annotations

from pathlib import Path

from models.weight_layout import Arrays, Layout

# The table's name: whose files have nothing else in them.
NAMES = {"embedding.weight": "WordLlama", "embeddings": "Model2Vec"}


def recognise(arrays: Arrays, path: Path) -> Layout | None:
    """The layout of a file that holds one table [V, D] of one of these names, otherwise None."""
    name, table = next(iter(arrays.items())) if len(arrays) == 1 else ("", None)
    if name not in NAMES or table.ndim != 2:
        return None
    return Layout(
        says=f"static word vectors of {NAMES[name]}",
        kind="bag",
        arguments=dict(width=table.shape[1], vectors="learned"),
        settings=dict(vocab_size=len(table), weighting="one", pool="mean", mlp=()),
        place=lambda name, array: {"words": array},
    )
