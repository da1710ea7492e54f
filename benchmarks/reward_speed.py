"""How much faster CIDEr-D on the device is than pycocoevalcap's scorer, in the same process.

    python benchmarks/reward_speed.py [--data FLICKR8K] [--images 50] [--samples 5] [--repeats 15]

Both know the document frequencies of all training captions beforehand, as in self-critical
training, and score the same texts against 5 references each; values are compared first, then both
are timed in turn. The scorer gets strings: turning ids into them isn't counted against it.
On a machine that others use, look at the processor time. Without pycocoevalcap only ours is timed.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.coco_cider import CiderScorer, scorer
from metrics.cider import Frequencies
from metrics.ptb import tokenize
from rewards import idf
from rewards.base import EOS, PAD
from rewards.cider import cider_d
from rewards.frequencies import from_texts

Texts = list[list[str]]  # of every image its captions, tokenised
LENGTH = 20


def flickr8k(folder: Path) -> Texts:
    """The 5 captions of every image."""
    groups: dict[str, list[str]] = {}
    path = folder / "Flickr8k_text" / "Flickr8k.token.txt"
    for line in path.read_text(encoding="utf-8").splitlines():
        name, caption = line.split("\t")
        groups.setdefault(name.split("#")[0], []).append(tokenize(caption))
    return list(groups.values())


def synthetic(images: int, vocabulary: int = 5_000) -> Texts:
    """Captions of 6 to 16 words with the word frequencies of natural language (Zipf)."""
    draw = random.Random(0)
    words = [f"w{rank}" for rank in range(1, vocabulary + 1)]
    weights = [1 / rank for rank in range(1, vocabulary + 1)]
    return [
        [" ".join(draw.choices(words, weights, k=draw.randint(6, 16))) for _ in range(5)]
        for _ in range(images)
    ]


def as_ids(texts: Texts) -> list[list[list[int]]]:
    """Words that occur 5 times get an id each, the others one together; EOS ends every text."""
    counts = Counter(word for captions in texts for text in captions for word in text.split())
    known = {word: i for i, (word, n) in enumerate(counts.most_common(), 4) if n >= 5}
    return [
        [[*(known.get(word, 3) for word in text.split()[: LENGTH - 1]), EOS] for text in captions]
        for captions in texts
    ]


def sampled(ids: list[list[list[int]]], images: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Texts [B, N, T] as a policy writes them, own captions with words replaced; references."""
    draw = np.random.default_rng(0)
    chosen = draw.choice(len(ids), images, replace=False)
    words = np.array([i for captions in ids for text in captions for i in text if i != EOS])
    tokens = np.full((images, samples, LENGTH), PAD, np.int32)
    references = np.full((images, 5, LENGTH), PAD, np.int32)
    for b, image in enumerate(chosen):
        for r, text in enumerate(ids[image][:5]):
            references[b, r, : len(text)] = text
        for n in range(samples):
            text = np.array(ids[image][n % 5])
            other = draw.random(len(text)) < 0.3
            other[-1] = False
            text[other] = draw.choice(words, other.sum())
            tokens[b, n, : len(text)] = text
    return tokens, references


def strings(tokens: np.ndarray) -> list[list[str]]:
    """[B, N, T] -> ids joined by blanks, EOS included."""
    return [[" ".join(str(i) for i in row if i != PAD) for row in rows] for rows in tokens]


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """Wall time and processor time, of all threads, of one call."""
    start = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def main() -> int:
    """Compare, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="Flickr8k folder; synthetic captions without")
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    ids = as_ids(flickr8k(args.data) if args.data else synthetic(6000))
    frequencies = Frequencies.of([[" ".join(map(str, t)) for t in captions] for captions in ids])
    tokens, references = sampled(ids, args.images, args.samples)
    print(
        f"{args.images} images x {args.samples} samples x 5 references of up to {LENGTH} tokens; "
        f"{len(frequencies.counts):,} n-grams of {len(ids):,} images, "
        f"{'Flickr8k' if args.data else 'synthetic'}; {jax.devices()[0].device_kind}"
    )
    table = idf.pack(*from_texts(frequencies))
    score, on_device = jax.jit(cider_d), jax.device_put((table, tokens, references))
    mine = np.asarray(score(*on_device))
    ours = lambda: jax.block_until_ready(score(*on_device))  # noqa: E731
    if CiderScorer is None:
        best = min(seconds(ours)[0] for _ in range(args.repeats))
        print(f"ours {best * 1e3:.2f} ms; pycocoevalcap isn't installed: no comparison")
        return 0
    score_texts = scorer(frequencies.counts, frequencies.images)
    texts = [text for said in strings(tokens) for text in said]
    known = [told for told in strings(references) for _ in range(args.samples)]
    theirs = lambda: score_texts(texts, known)  # noqa: E731
    worst = float(np.abs(mine.ravel() - theirs()).max())
    print(f"mean score {mine.mean():.3f}, largest difference of any text's: {worst:.1e}")
    if worst > 1e-4:
        print("values differ: no timing")
        return 1
    times = np.array([(seconds(ours), seconds(theirs)) for _ in range(args.repeats)])
    for k, kind in enumerate(("wall", "processor")):
        for name, pick in (("min", np.min), ("median", np.median)):
            fast, slow = pick(times[:, :, k], axis=0)
            print(
                f"{kind:9} {name:6}  ours {fast * 1e3:6.2f} ms   peer {slow * 1e3:6.1f} ms   "
                f"{slow / fast:.1f}x"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
