"""Tiny data of every few-shot config, in the layout that its docstring names."""

import pathlib

import numpy as np
from PIL import Image

from tests import few_shot_texts, tiny_data, tiny_omniglot, tiny_parallel, tiny_tags


def texts(folder: pathlib.Path) -> pathlib.Path:
    folder.mkdir(parents=True)
    return few_shot_texts.write_texts(folder)


def omniglot(folder: pathlib.Path) -> pathlib.Path:
    folder.mkdir(parents=True)
    tiny_omniglot.write_background(folder, characters=8)
    return tiny_omniglot.write_runs(folder)


def photographs(folder: pathlib.Path) -> pathlib.Path:
    """Fifteen classes, each of a colour."""
    rng = np.random.default_rng(0)
    for k in range(15):
        (folder / f"class{k:02d}").mkdir(parents=True)
        for i in range(6):
            noise = rng.integers(0, 60, (64, 64, 3)) + 12 * k
            Image.fromarray(noise.astype(np.uint8)).save(folder / f"class{k:02d}" / f"{i}.png")
    return folder


MAKERS = {  # config -> what makes its data
    "fewshot_captions": tiny_data.flickr8k,
    "fewshot_intents": texts,
    "fewshot_intents_minilm": texts,
    "fewshot_intents_static": texts,
    "fewshot_ner_wnut17": tiny_tags.wnut17,
    "fewshot_omniglot": omniglot,
    "fewshot_relations": tiny_tags.fewrel,
    "fewshot_slots_atis": tiny_tags.atis,
    "fewshot_slots_snips": tiny_tags.snips,
    "fewshot_tiny_imagenet": photographs,
    "fewshot_translation": tiny_parallel.write,
    "maml_omniglot": omniglot,
}
