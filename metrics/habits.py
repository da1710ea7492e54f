"""How a run writes, whatever it scores: length, variety and ends of its captions.

What reinforcement learning of a score spoils first: captions that shrink, that are one caption for
many images, or that stop in the middle ("a man in a").
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Words that ask for another one: the bad endings of ImageCaptioning.pytorch and a few more.
UNFINISHED = frozenset(
    "a an and at by for her his in is its of on or that the their this to while with".split()
)


def habits(captions: Sequence[Sequence[str]]) -> dict[str, float]:
    """Words of each caption → its means.

    words        of a caption
    distinct     captions that differ, as a share of all
    bad ends     share that ends in a word of UNFINISHED, or is empty
    Raises ValueError where there is no caption.
    """
    if not captions:
        raise ValueError("no captions, so nothing can be said of how they are written.")
    unfinished = [not words or words[-1] in UNFINISHED for words in captions]
    return {
        "words": float(np.mean([len(words) for words in captions])),
        "distinct": len({tuple(words) for words in captions}) / len(captions),
        "bad ends": float(np.mean(unfinished)),
    }
