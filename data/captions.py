"""Captioned images as NumPy batches: what tasks train on and evaluators read.

`Captions(source="flickr8k", path=...)` works with any `data/<source>.py`. Training batches are an
endless stream in which batch i depends on (seed, i) alone; evaluation is one ordered pass.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from data import features as feature_files
from data import images, languages, plan, precomputed
from data.source import Example, Problems
from data.splits import (
    Split,
    make_buckets,
    make_tokenizer,
    make_views,
    named,
    reader,
    usable,
)
from data.stream import ENDLESS, Batch, Stream, host_block, stream


class Captions(Stream):
    """A data set of captioned images.

    A batch is {"image": uint8 [B, H, W, 3] or "features": float16 [B, S, D], "tokens": int32
    [B, N, T + 1] = BOS words EOS PAD.., "index": int32 [B] (position in the split, -1 = padding)}.

    Args:
      source, path: the file data/<source>.py that reads, and where the data lie.
      buckets: caption lengths in words below max_len to which batches are padded; () = max_len.
      tokenizer: "words", "characters", "bpe", or a vocabulary file (.json) saved by a run.
      language: "en", or several as "en,zh": then a caption starts with its language's token.
      language_sampling: of several, as many captions of each ("balanced") or any ("proportional").
      image_crop: share of the sides, in the middle, that is looked at (1 = all); 0 = what the
        encoder's weights file says (timm's crop_pct), or all.
      augment, flip: random crops and mirroring in training. Captions that say left or right are
        never mirrored; set flip=False where other words depend on the side.
      on_error: "raise" at a bad record, or "skip" (decodes every image once at the start).
      limit: keep only so many examples of each split; 0 keeps all.
      threads, prefetch: how many batches are made at once, and how many wait ready.
      features: features computed elsewhere, read in place of images: see data/precomputed.py.
      cached_views, cache_dir: see `cache_features`; 0 views = decode images at every step.

    Raises: ValueError or FileNotFoundError, one sentence naming the config key or file:line.
    """

    def __init__(
        self,
        *,
        source: str,
        path: str = "",
        image_size: int = 224,
        image_crop: float = 0.0,
        batch_size: int = 16,
        captions_per_image: int = 5,
        max_len: int = 20,
        buckets: Sequence[int] = (),
        tokenizer: str = "words",
        min_count: int = 5,
        vocab_size: int = 8000,
        augment: bool = True,
        flip: bool = True,
        on_error: str = "raise",
        language: str | tuple[str, ...] = "en",
        language_sampling: str = "balanced",
        limit: int = 0,
        threads: int = 2,
        prefetch: int = 4,
        features: str = "",
        cached_views: int = 0,
        cache_dir: str = "",
    ) -> None:
        self.name = f"{source} {path}".strip()
        self.image_size, self.batch_size, self.max_len = image_size, batch_size, max_len
        if not 0 <= image_crop <= 1:
            raise ValueError(f"data.image_crop={image_crop} is a share of the sides: 0 to 1")
        self.image_crop = image_crop or 1.0
        self.captions_per_image, self.cached_views = captions_per_image, cached_views
        self.buckets = make_buckets(buckets, max_len)
        self._threads, self._prefetch = threads, prefetch
        self._cache_dir = Path(cache_dir or feature_files.default_folder() / "features")
        problems = Problems(on_error)
        self.languages = languages.listed(language)
        self._balanced = len(self.languages) > 1 and languages.balanced(language_sampling)
        read = dict(on_error=on_error, languages=self.languages)
        found = languages.read(reader(source), path, **read)
        if not any(found.splits.values()):
            raise ValueError(f"data.path={path!r} ({source}) holds no examples; check its content")
        splits = {
            split: usable(split, examples[: limit or None], problems, threads)
            for split, examples in found.splits.items()
        }
        wanted = dict(languages=self.languages, min_count=min_count, vocab_size=vocab_size)
        self.tokenizer = make_tokenizer(tokenizer, splits, self.name, **wanted)
        self._splits = {}
        for split, examples in splits.items():
            views = make_views(augment and split == "train", flip, cached_views)
            table = plan.caption_table(examples, self.tokenizer, max_len, problems)
            self._splits[split] = Split(*table, views)
        self.skipped = [*found.skipped, *problems.skipped]
        if features:
            self.open_features(features)

    @property
    def sizes(self) -> dict[str, int]:
        """Images in each split."""
        return {name: len(split.examples) for name, split in self._splits.items()}

    @property
    def facts(self) -> dict[str, int]:
        """What a model is made for."""
        return {"vocab_size": len(self.tokenizer)}

    def describe(self) -> str:
        """A few lines for the start of a run: counts, vocabulary, what was cut and left out."""
        lines = [f"data        {self.name}"]
        for name, split in self._splits.items():
            captions = int(split.table.count.sum())
            text = f"{captions:,} captions" if captions else "no captions"
            cut = f", {split.table.cut:,} cut at {self.max_len} words" if split.table.cut else ""
            cache = f", features {list(split.cache.shape)} cached" if split.cache else ""
            lines.append(f"  {name:<14}{len(split.examples):,} images, {text}{cut}{cache}")
        kind, size, key = self.tokenizer.kind, len(self.tokenizer), self.tokenizer.hash
        kind += f" of {', '.join(self.languages)}" if len(self.languages) > 1 else ""
        lines.append(f"  vocabulary    {size:,} {kind}, {key}")
        if self.skipped:
            lines.append(f"  left out      {len(self.skipped):,} records, first: {self.skipped[0]}")
        return "\n".join(lines)

    def _split(self, name: str) -> Split:
        if name not in self._splits:
            raise ValueError(
                f'{self.name} has no split "{name}"; use one of {", ".join(self._splits)}'
            )
        if not self._splits[name].examples:
            raise ValueError(f'the split "{name}" of {self.name} is empty; check its files')
        return self._splits[name]

    def step(self, split: str, seed: int) -> Callable[[int, slice], Batch]:
        """Raises ValueError for an unknown, empty or caption-less split."""
        part = self._split(split)
        if not part.table.count.all():
            raise ValueError(f'the split "{split}" of {self.name} has no captions to train on')
        sizes = self.batch_size, self.captions_per_image
        rows = plan.Plan(part.table, seed, *sizes, part.views, self.buckets, self._balanced)

        def make(i: int, block: slice) -> Batch:
            step = rows.step(i)
            index = step.index[block]
            batch = self._look(part, index, step.view[block], step.seed[block])
            batch["tokens"] = part.table.rows(step.captions[block], step.words)
            batch["index"] = index.astype(np.int32)
            return batch

        return make

    def one_pass(
        self,
        split: str,
        batch_size: int = 0,
        process: int = 0,
        processes: int = 1,
        images: bool = False,
    ) -> Iterator[dict[str, np.ndarray]]:
        """The split once, in order, unaugmented; the last batch is padded with index -1.

        images: even where their features are cached.
        """
        part, size = self._split(split), batch_size or self.batch_size
        block, n = host_block(size, process, processes), len(part.examples)

        def make(i: int) -> dict[str, np.ndarray]:
            index = np.arange(i * size, (i + 1) * size)[block]
            index = np.where(index < n, index, -1)
            whole = np.zeros_like(index)
            batch = self._look(part, index, whole, whole, images)
            chosen = part.table.leading(index, self.captions_per_image)
            chosen = np.where(index[:, None] < 0, -1, chosen)
            batch["tokens"] = part.table.rows(chosen, self.max_len)
            batch["index"] = index.astype(np.int32)
            return batch

        return stream(make, 0, -(-n // size), self._threads, self._prefetch)

    def _look(
        self,
        split: Split,
        index: np.ndarray,
        view: np.ndarray,
        seed: np.ndarray,
        pixels: bool = False,
    ) -> dict[str, np.ndarray]:
        """The images, or their cached features, of examples [B]; index -1 gives zeros."""
        if split.cache is not None and not pixels:
            slot = np.searchsorted(split.views, view)
            return {"features": split.cache.rows(slot, index)}
        size = self.image_size
        out = np.zeros((len(index), size, size, 3), np.uint8)
        for row, i, k, s in zip(out, index, view, seed, strict=True):
            if i >= 0:
                example = split.examples[i]
                share = self.image_crop
                row[...] = images.load(example.image, named(example), size, int(k), int(s), share)
        return {"image": out}

    def look(self, split: str, index: np.ndarray) -> dict[str, np.ndarray]:
        """The whole images, or their features, of examples [B] of a split; index -1 gives zeros."""
        whole = np.zeros_like(index)
        return self._look(self._split(split), index, whole, whole)

    def cache_features(
        self,
        encode: Callable[[np.ndarray], np.ndarray],
        key: str,
        *,
        batch_size: int = 32,
        splits: Sequence[str] = (),
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        """From now on batches carry a frozen encoder's "features" instead of images.

        `encode` maps uint8 [batch_size, H, W, 3] to float16 [batch_size, S, D]; `key` names its
        weights. Training images are kept in `cached_views` fixed views (whole, mirrored, crops).
        `progress(split, done, total)` is called while the files are built.
        """
        for name in splits or [name for name, n in self.sizes.items() if n]:
            part = self._split(name)
            part.cache = None
            n, prints = len(part.examples), [_fingerprint(e) for e in part.examples]
            seen = (self.image_size, *([self.image_crop] if self.image_crop < 1 else []))
            digest = feature_files.digest(key, prints, *seen, part.views)
            tell = progress and (lambda done, total, name=name: progress(name, done, total))
            part.cache = feature_files.build(
                self._cache_dir / f"{name}-{digest}.npy",
                len(part.views),
                n,
                self._every_view(part, batch_size),
                encode,
                tell,
            )

    def open_features(self, path: str, splits: Sequence[str] = ()) -> None:
        """From now on batches carry features from elsewhere; splits: of those alone, () = all."""
        if self.cached_views:
            raise ValueError("data.features are read as they are: set data.cached_views=0")
        names = splits or [name for name, n in self.sizes.items() if n]
        ids = {name: self.image_ids(name) for name in names}
        for name, rows in precomputed.open_features(path, ids).items():
            self._splits[name].cache = rows

    def _every_view(self, split: Split, size: int) -> Iterator[np.ndarray]:
        """uint8 [size, H, W, 3], view after view, decoded in threads ahead of the encoder."""
        n = len(split.examples)
        per_view = -(-n // size)

        def make(i: int) -> dict[str, np.ndarray]:
            view, batch = split.views[i // per_view], i % per_view
            index = np.arange(batch * size, (batch + 1) * size)
            seed = view * ENDLESS + index  # fixed: the same view on any machine
            index = np.where(index < n, index, -1)
            return self._look(split, index, np.full(size, view), seed)

        total = per_view * len(split.views)
        for batch in stream(make, 0, total, self._threads, self._prefetch):
            yield batch["image"]

    def references(self, split: str, language: str = "") -> dict[int | str, list[str]]:
        """Image id -> its captions as written, of one language or all; images without: left out."""
        found = {}
        for e in self._split(split).examples:
            spoken = e.languages or self.languages * len(e.captions)
            own = [c for c, s in zip(e.captions, spoken, strict=True) if language in ("", s)]
            if own:
                found[e.image_id] = own
        return found

    def truths(self, split: str) -> dict[int | str, dict]:
        """Image id -> what the scene really shows, for sources that know."""
        return {e.image_id: e.truth for e in self._split(split).examples if e.truth is not None}

    def image_ids(self, split: str) -> list[int | str]:
        """Ids in the order of `index`."""
        return [e.image_id for e in self._split(split).examples]

    def image(self, split: str, i: int) -> np.ndarray:
        """The i-th image, as evaluation sees it -> uint8 [image_size, image_size, 3]."""
        example = self._split(split).examples[i]
        return images.load(example.image, named(example), self.image_size, share=self.image_crop)


def _fingerprint(example: Example) -> tuple:
    return example.image_id, getattr(example.image, "fingerprint", example.origin)
