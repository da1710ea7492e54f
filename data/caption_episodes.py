"""Few-shot episodes of captioning: a task is a language, or what images of one concept show.

From k images with a caption each: how are other images described? "zh" is Chinese; "en:dog" are
images whose English captions mostly say "dog".
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from data.captions import Captions
from data.languages import UNSPACED
from data.sequence_episodes import Pools, SequenceEpisodes, check_tasks, halves
from data.sequence_plan import Pool, TaskPools
from data.tokenizer import split_words

READ = ("train", "dev")  # the splits of images
MOSTLY = 0.5  # of an image's captions say the concept


class CaptionEpisodes(SequenceEpisodes):
    """Captioned images (data/captions.py) as episodes; the input column is "features" or "image".

    A held-out task's support images are among the last `reserved` training images, of which no
    training episode shows one; what is asked are images of the split "dev", half of them in
    episodes of dev, half in those of test. The split "test" is never read. Images of a concept
    that is held out are in no training episode.

    Args:
      source, path, image_size, features, cached_views, cache_dir, tokenizer, min_count, vocab_size:
        see Captions; features or one cached view make an episode cheap.
      tasks: {"train": ("en", "de"), "dev": .., "test": ("zh", ..)}, each LANGUAGE or LANGUAGE:WORD.
      limit: images of each split, 0 = all. Other arguments: SequenceEpisodes.

    Raises: ValueError or FileNotFoundError, one sentence naming the config key or file:line.
    """

    def __init__(
        self,
        *,
        source: str,
        path: str = "",
        tasks: Mapping[str, Sequence[str]],
        reserved: int = 500,
        image_size: int = 224,
        features: str = "",
        cached_views: int = 0,
        cache_dir: str = "",
        tokenizer: str = "words",
        min_count: int = 5,
        vocab_size: int = 8_000,
        on_error: str = "raise",
        limit: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        wanted = check_tasks(tasks)
        spoken = dict.fromkeys(
            name.partition(":")[0] for names in wanted.values() for name in names
        )
        self.captions = Captions(
            source=source, path=path, language=",".join(spoken), image_size=image_size,
            augment=False, cached_views=min(cached_views, 1), cache_dir=cache_dir,
            tokenizer=tokenizer, min_count=min_count, vocab_size=vocab_size,
            max_len=self._lengths[-1], on_error=on_error, limit=limit, threads=self._threads,
            prefetch=self._prefetch,
        )  # fmt: skip
        if features:
            self.captions.open_features(features, READ)
        self.cached_views, self.image_size = self.captions.cached_views, image_size
        rows = _rows(self.captions, tuple(spoken))
        self._place = [row[:2] for row in rows]
        items = np.array([row[2] for row in rows], np.int64)
        self.hold(
            name=self.captions.name, tokenizer=self.captions.tokenizer,
            encode=self.captions.tokenizer.encode, items=items,
            texts=[row[3] for row in rows], languages=[row[4] for row in rows],
            pools=_pools(rows, items, wanted, reserved),
        )  # fmt: skip

    def inputs(self, rows: np.ndarray, words: int) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        flat = rows.ravel()
        places = [self._place[row] for row in flat]
        for split in dict.fromkeys(split for split, _ in places):
            mine = np.array([i for i, place in enumerate(places) if place[0] == split])
            seen = self.captions.look(split, np.array([places[i][1] for i in mine]))
            for name, x in seen.items():
                column = found.setdefault(name, np.zeros((len(flat), *x.shape[1:]), x.dtype))
                column[mine] = x
        return {name: x.reshape(*rows.shape, *x.shape[1:]) for name, x in found.items()}

    def shown(self, row: int) -> tuple[str, np.ndarray]:
        split, place = self._place[row]
        name = str(self.captions.image_ids(split)[place])
        return name, self.captions.image(split, place)

    def references(self, split: str, language: str = "") -> dict[int | str, list[str]]:
        """See Captions."""
        return self.captions.references(split, language)

    def cache_features(
        self, encode: Callable, key: str, *, splits: Sequence[str] = (), **options: Any
    ) -> None:
        """From now on batches carry a frozen encoder's "features": see Captions."""
        self.captions.cache_features(encode, key, splits=READ, **options)


Row = tuple[str, int, int, str, str]  # split, place in it, item, caption, language


def _rows(captions: Captions, spoken: tuple[str, ...]) -> list[Row]:
    """Every caption of the splits train and dev."""
    rows: list[Row] = []
    items = 0
    for split in READ:
        said = {language: captions.references(split, language) for language in spoken}
        for place, image in enumerate(captions.image_ids(split)):
            for language in spoken:
                for text in said[language].get(image, ()):
                    rows.append((split, place, items + place, text, language))
        items += captions.sizes[split]
    return rows


def _pools(
    rows: Sequence[Row], items: np.ndarray, tasks: Mapping[str, Sequence[str]], reserved: int
) -> Pools:
    of = {name: _about(rows, name) for names in tasks.values() for name in names}
    train = sorted({row[2] for row in rows if row[0] == "train"})
    if not 0 <= reserved < len(train):
        raise ValueError(f"data.reserved={reserved} must be below the {len(train)} training images")
    kept = set(train[len(train) - reserved :])
    concepts = [name for split in ("dev", "test") for name in tasks[split] if ":" in name]
    held = kept.union(*({rows[i][2] for i in of[name]} for name in concepts))
    asked = {row[2] for row in rows if row[0] == "dev"}
    parts = {split: set(part) for split, part in halves(sorted(asked)).items()}
    pools: Pools = {split: {} for split in tasks}
    for name in tasks["train"]:
        pool = Pool.of([i for i in of[name] if rows[i][2] not in held | asked], items)
        pools["train"][name] = TaskPools(pool, pool)
    for split in ("dev", "test"):
        for name in tasks[split]:
            apart = held - asked if ":" in name else kept
            support = Pool.of([i for i in of[name] if rows[i][2] in apart], items)
            query = Pool.of([i for i in of[name] if rows[i][2] in parts[split]], items)
            pools[split][name] = TaskPools(support, query)
    return pools


def _about(rows: Sequence[Row], task: str) -> list[int]:
    """Captions of a task: those in its language, of a concept those of images that show it."""
    language, _, word = task.partition(":")
    own = [i for i, row in enumerate(rows) if row[4] == language]
    if not word:
        return own
    cut = str if language in UNSPACED else split_words
    said: dict[int, list[bool]] = {}
    for i in own:
        said.setdefault(rows[i][2], []).append(word in cut(rows[i][3]))
    return [i for i in own if np.mean(said[rows[i][2]]) >= MOSTLY]
