"""Parallel text: one file for each language, line by line the same sentences.

`path` holds `train.en`, `train.de`, `val.en`, ... as Multi30k does (Elliott et al. 2016).
"""

from pathlib import Path

from data.source import RENAMED, Problems, existing, read_text

SPLITS = ("train", "dev", "test")
Lines = dict[str, dict[str, list[str]]]  # split -> language -> its lines


def read(path: str, *, languages: tuple[str, ...], on_error: str = "raise") -> Lines:
    """{split: {language: lines}} of these languages.

    A line that is empty in one language is a problem; where problems are skipped, it is left out
    of all. Raises FileNotFoundError for a folder without training text; ValueError where languages
    differ in their number of lines or for an empty line, as file:line.
    """
    root, problems = existing(path), Problems(on_error)
    found: Lines = {}
    for file in sorted(p for p in root.iterdir() if p.is_file() and p.suffix):
        split, language = RENAMED.get(file.stem, file.stem), file.suffix[1:]
        if split in SPLITS and language in languages:
            found.setdefault(split, {})[language] = read_text(file).splitlines()
    if missing := [x for x in languages if x not in found.get("train", {})]:
        raise FileNotFoundError(
            f"data.path={root} has no train.{missing[0]}; it must hold line-aligned files such as "
            "train.en and train.de"
        )
    return {s: _aligned(root, s, found[s], problems) for s in SPLITS if s in found}


def _aligned(
    root: Path, split: str, texts: dict[str, list[str]], problems: Problems
) -> dict[str, list[str]]:
    counts = {language: len(lines) for language, lines in texts.items()}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{language} {n:,}" for language, n in counts.items())
        raise ValueError(f'{root}: the split "{split}" is not line by line the same: {said} lines')
    kept = []
    for number, lines in enumerate(zip(*texts.values(), strict=True), 1):
        empty = [name for name, line in zip(texts, lines, strict=True) if not line.strip()]
        if empty:
            problems.add(f"{root} ({split}.{empty[0]}:{number}) is an empty line; write the text")
        else:
            kept.append([line.strip() for line in lines])
    return {name: [lines[i] for lines in kept] for i, name in enumerate(texts)}
