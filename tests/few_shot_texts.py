"""Ten classes of sixteen made-up texts, laid out as the published few-shot intents are."""

import json

SPLIT = {"train": range(3), "valid": range(3, 6), "test": range(6, 10)}


def write_texts(folder, extra=()):
    """Writes full.jsonl and class_splits/01 into `folder`; returns it."""
    rows = [(f"word{k % 4} of c{c} number {k}", f"c{c}") for c in range(10) for k in range(16)]
    lines = [json.dumps({"text": t, "label": c}) for t, c in (*rows, *extra)]
    (folder / "full.jsonl").write_text("".join(f"{line}\n" for line in lines))
    place = folder / "class_splits" / "01"
    place.mkdir(parents=True, exist_ok=True)
    for name, numbers in SPLIT.items():
        (place / f"labels.{name}.txt").write_text("".join(f"c{c}\n" for c in numbers))
    return folder
