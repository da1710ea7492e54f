"""How much faster BLEU + ROUGE-L + CIDEr-D are than pycocoevalcap's Python scorers, same process.

    python benchmarks/metrics_speed.py [--data FLICKR8K] [--images 1000] [--repeats 7]

Values are compared first; then both are timed in turn. Without pycocoevalcap only ours is timed.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from metrics.ptb import tokenize
from metrics.score import score

try:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
except ImportError:
    Bleu = None

Captions = dict[int, list[str]]


def flickr8k(folder: Path, images: int) -> tuple[dict[int, str], Captions]:
    """Each image's 5 captions as references; the next image's first caption as its result."""
    groups: dict[str, list[str]] = {}
    path = folder / "Flickr8k_text" / "Flickr8k.token.txt"
    for line in path.read_text(encoding="utf-8").splitlines():
        name, caption = line.split("\t")
        groups.setdefault(name.split("#")[0], []).append(tokenize(caption))
    texts = list(groups.values())[: images + 1]
    # Every second result shares most words with its references, as a trained model's would.
    results = {
        i: " ".join(texts[i][0].split()[:-1]) if i % 2 else texts[i + 1][0]
        for i in range(len(texts) - 1)
    }
    return results, {i: texts[i] for i in results}


def synthetic(images: int) -> tuple[dict[int, str], Captions]:
    """Captions of 6 to 16 words with the word frequencies of natural language (Zipf)."""
    draw = random.Random(0)
    weights = [1 / rank for rank in range(1, 5001)]
    words = [f"w{rank}" for rank in range(1, 5001)]

    def caption() -> str:
        return " ".join(draw.choices(words, weights, k=draw.randint(6, 16)))

    references = {i: [caption() for _ in range(5)] for i in range(images)}
    results = {i: r[0] if i % 2 else caption() for i, r in references.items()}
    return results, references


def ours(results: dict[int, str], references: Captions) -> dict[str, np.ndarray]:
    """Corpus value first, then the images', for each metric."""
    scores = score(results, references, tokenizer="none", metrics=("bleu", "rouge_l", "cider_d"))
    return {k: np.append(scores.corpus[k], v) for k, v in scores.per_image.items()}


def theirs(results: dict[int, str], references: Captions) -> dict[str, np.ndarray]:
    """The same from pycocoevalcap."""
    lists = {i: [caption] for i, caption in results.items()}
    whole, each = Bleu(4).compute_score(references, lists, verbose=0)
    values = {f"BLEU-{n + 1}": np.append(whole[n], each[n]) for n in range(4)}
    for name, scorer in (("ROUGE-L", Rouge()), ("CIDEr-D", Cider())):
        values[name] = np.append(*scorer.compute_score(references, lists))
    return values


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> int:
    """Compare, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="Flickr8k folder; synthetic captions without")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    data = flickr8k(args.data, args.images) if args.data else synthetic(args.images)
    print(f"{len(data[0])} images x 5 references, {'Flickr8k' if args.data else 'synthetic'}")
    if Bleu is None:
        best = min(seconds(lambda: ours(*data)) for _ in range(args.repeats))
        print(f"ours {best * 1e3:.0f} ms; pycocoevalcap isn't installed, so there is no comparison")
        return 0
    mine, peer = ours(*data), theirs(*data)
    worst = max(float(np.abs(mine[k] - peer[k]).max()) for k in peer)
    print(f"largest difference of any corpus or per-image value: {worst:.1e}")
    if worst > 1e-9:
        print("values differ: no timing")
        return 1
    pairs = [
        (seconds(lambda: ours(*data)), seconds(lambda: theirs(*data))) for _ in range(args.repeats)
    ]
    for name, pick in (("min", min), ("median", statistics.median)):
        fast, slow = (pick(times) for times in zip(*pairs, strict=True))
        print(
            f"{name:6}  ours {fast * 1e3:5.0f} ms   peer {slow * 1e3:5.0f} ms   {slow / fast:.1f}x"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
