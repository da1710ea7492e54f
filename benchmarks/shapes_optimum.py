"""The CIDEr-D of a perfect writer of drawn scenes, who cannot know which wordings were chosen.

    python -m benchmarks.shapes_optimum --split=compositional
    python -m benchmarks.shapes_optimum --workdir=runs/rl-shapes --split=compositional

For every scene all sentences of the grammar are compared with all sentences that a reference may
be; the one with the highest expected CIDEr-D is written. Prints what it scores, and a run's share.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import experiment
from data.scene_wordings import wordings
from metrics.cider import Frequencies, cider, similarity
from metrics.corpus import Corpus
from metrics.ptb import tokenize


def perfect(
    truths: Mapping[Any, Mapping], references: Mapping[Any, Sequence[str]]
) -> dict[Any, str]:
    """{image id: the sentence of the highest expected score}."""
    frequencies = Frequencies.of([[tokenize(r) for r in refs] for refs in references.values()])
    best = {}
    for image, truth in truths.items():
        chances = wordings(truth)
        said = [tokenize(text) for text in chances]
        corpus = Corpus(said, [said] * len(said))
        pairs = similarity(corpus, frequencies=frequencies).reshape(len(said), len(said))
        best[image] = list(chances)[int((pairs @ np.array([*chances.values()])).argmax())]
    return best


def main() -> None:
    """Prints the optimum, and what a run writes greedily."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", default="", help="a run on drawn scenes, captioned greedily")
    parser.add_argument("--split", default="compositional")
    flags = parser.parse_args()
    if flags.workdir:
        b, variables, _ = experiment.restore(flags.workdir)
    else:
        config = experiment.read_experiment("configs/captioning_shapes.py")
        b, variables = experiment.build(config), None
    evaluator = next(e for e in b.evals.values() if e.split == flags.split)
    references = b.data.references(flags.split)
    truths = {i: b.data.truths(flags.split)[i] for i in references}
    written = perfect(truths, references)
    own = [[tokenize(r) for r in refs] for refs in references.values()]
    best = float(cider(Corpus([tokenize(written[i]) for i in references], own)).mean())
    print(f"{flags.split}: perfect writer {best:.3f}")
    if flags.workdir:
        found = evaluator.run(variables)["CIDEr-D"]
        print(f"{flags.workdir}: {found:.3f}, {found / best:.1%} of it")


if __name__ == "__main__":
    main()
