"""Episodes of a few-shot run to be read: an easy, a typical and a hard one.

What was shown and asked, and what was said of it: classes of rows, or written texts.
"""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np
from PIL import Image

from data.episode_plan import Drawn
from evaluators.episodes import Episodes
from evaluators.page import photo, uri
from evaluators.samples import goodness
from evaluators.sequence_episodes import SequenceEpisodes

EXAMPLES = (("An easy episode", 0.9), ("A typical episode", 0.5), ("A hard episode", 0.1))
ROWS = 6  # support rows of a class, or pairs, that are shown
ASKED = 8  # texts that are
NONE = "none of these"


def _picked(score: np.ndarray) -> dict[int, str]:
    """Episodes at three places of the order by a score [E], and what they are called."""
    order = np.argsort(score, kind="stable")
    found: dict[int, str] = {}
    for title, place in EXAMPLES:
        found.setdefault(int(order[round(place * (len(order) - 1))]), title)
    return found


def examples(evaluator: Episodes) -> list[dict[str, Any]]:
    """Episodes at three places of the order by accuracy, class by class."""
    answered = list(evaluator.answers())
    if not answered or not hasattr(evaluator.data, "rows"):
        return []
    score = evaluator.each["accuracy"]
    return [
        _episode(evaluator, *answered[i], title, float(score[i]))
        for i, title in _picked(score).items()
    ]


def _episode(
    evaluator: Episodes, drawn: Drawn, predicted: np.ndarray, title: str, accuracy: float
) -> dict[str, Any]:
    item = functools.partial(_item, evaluator.data)
    names = {k: evaluator.names[c] for k, c in enumerate(drawn.classes)}
    hues = {k: round(360 * k / len(names)) for k in names}
    groups = []
    for label, name in [*names.items(), (drawn.ways, NONE)]:
        asked = [
            {
                **item(row),
                "right": answer == label,
                "said": names.get(answer, NONE),
                "hue": hues.get(answer, 0),
            }
            for row, truth, answer in zip(
                drawn.query.tolist(), drawn.query_label.tolist(), predicted.tolist(), strict=True
            )
            if truth == label
        ]
        shown = drawn.support[drawn.support_label == label].tolist()
        group = {"name": name, "hue": hues.get(label, 0), "more": len(shown) - ROWS}
        if shown or asked:
            groups.append(group | {"shown": [item(row) for row in shown[:ROWS]], "asked": asked})
    return {"title": title, "index": drawn.index, "accuracy": accuracy, "groups": groups}


def _item(data: Any, row: int) -> dict[str, str]:
    """A row as a person sees it: its text, or its image as an address."""
    value = data.rows[row].value
    if isinstance(value, str):
        return {"text": value}
    buffer = io.BytesIO()
    pixels = data.columns["image"][row]
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
    return {"image": uri(buffer.getvalue(), "png")}


def written(evaluator: Episodes, key: str) -> list[dict[str, Any]]:
    """Episodes at three places of the order by the number `key`, text by text."""
    if not isinstance(evaluator, SequenceEpisodes):
        return []
    score = evaluator.each[key]
    return [
        {
            "title": title,
            "index": i,
            "score": f"{key} {score[i]:.3f}",
            "hue": round(137 * goodness(float(score[i]))),
            **_writing(evaluator, i),
        }
        for i, title in _picked(score).items()
    ]


def _writing(evaluator: SequenceEpisodes, index: int) -> dict[str, Any]:
    """Pairs and queries of one episode."""
    drawn, data = evaluator.drawn[index], evaluator.data
    pairs = zip(drawn.inputs, drawn.support, range(ROWS), strict=False)
    truths = data.truths(drawn.query)
    asked = zip(drawn.query, evaluator.written[index], truths, range(ASKED), strict=False)
    return {
        "task": evaluator.names[drawn.classes[0]],
        "made_up": drawn.names is not None,
        "pairs": [{**_given(data, i), "text": data.texts[row]} for i, row, _ in pairs],
        "more": len(drawn.support) - ROWS,
        "asked": [
            {**_given(data, row), "text": text, "truths": list(dict.fromkeys(true))}
            for row, text, true, _ in asked
        ],
        "unseen": len(drawn.query) - ASKED,
    }


def _given(data: Any, row: int) -> dict[str, str]:
    """An input as a person sees it: its text, or its image and the image's name."""
    name, image = data.shown(row)
    return {"given": name} if image is None else {"given": name, "photo": photo(image)}
