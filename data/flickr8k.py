"""Flickr8k as published (Hodosh et al. 2013): 8,000 photographs with five captions each.

`path` holds `Flickr8k_text/` (or its files directly) and the photographs as a folder or a zip.
The human Chinese and German captions (`flickr8k.zh.token.txt`, `.de.`) are read the same way.
"""

from pathlib import Path

from data.source import (
    IMAGE_FOLDERS,
    Example,
    Problems,
    Source,
    existing,
    folder_images,
    numbered_lines,
    zip_images,
)

CAPTION_FILES = {
    "en": "Flickr8k.token.txt",
    "zh": "flickr8k.zh.token.txt",
    "de": "flickr8k.de.token.txt",
}
SPLIT_FILE = "Flickr_8k.{}Images.txt"
SPLITS = ("train", "dev", "test")


def read(path: str, *, on_error: str = "raise", language: str = "en") -> Source:
    """Train, dev and test as published; images of a split that has no captions keep none.

    Raises: FileNotFoundError for a missing part; ValueError for an unknown language or, unless
    `on_error` is "skip", for a bad line (named as file:line).
    """
    if language not in CAPTION_FILES:
        raise ValueError(
            f'data.language="{language}" is not in Flickr8k; use one of {", ".join(CAPTION_FILES)}'
        )
    root, problems = existing(path), Problems(on_error)
    text = root / "Flickr8k_text" if (root / "Flickr8k_text").is_dir() else root
    images = _images(root)
    captions = _captions(_part(text, CAPTION_FILES[language]), images, problems)
    splits = {
        split: _split(_part(text, SPLIT_FILE.format(split)), images, captions, problems, language)
        for split in SPLITS
        if split == "train" or (text / SPLIT_FILE.format(split)).exists()
    }
    return Source(splits, problems.skipped)


def _part(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise FileNotFoundError(
            f"{folder / name} is missing; data.path must hold the Flickr8k distribution"
        )
    return folder / name


def _images(root: Path) -> dict:
    """File name -> image, from the first folder or zip found."""
    for name in IMAGE_FOLDERS:
        if (root / name).is_dir():
            return folder_images(root / name)
        if (root / f"{name}.zip").is_file():
            return zip_images(root / f"{name}.zip")
    raise FileNotFoundError(
        f"{root} holds neither {IMAGE_FOLDERS[0]}/ nor {IMAGE_FOLDERS[0]}.zip; "
        f"data.path must hold the Flickr8k distribution"
    )


def _captions(path: Path, images: dict, problems: Problems) -> dict[str, list[tuple[str, str]]]:
    """Image name -> [(caption, "file:line")] in file order."""
    found: dict[str, list[tuple[str, str]]] = {}
    for where, line in numbered_lines(path):
        key, tab, caption = line.partition("\t")
        name = key.rpartition("#")[0] or key
        if not tab:
            problems.add(f"{where} has no tab after the image's name; write image.jpg#0<TAB>text")
        elif name not in images:
            problems.add(f'{where} names the image "{name}", which is absent; add it or drop it')
        elif not caption.strip():
            problems.add(f'{where} has an empty caption for "{name}"; write one or drop the line')
        else:
            found.setdefault(name, []).append((caption.strip(), where))
    return found


def _split(
    path: Path, images: dict, captions: dict, problems: Problems, language: str
) -> list[Example]:
    lines = [(where, line.strip()) for where, line in numbered_lines(path)]
    captioned = any(name in captions for _, name in lines)
    examples, seen = [], set()
    for where, name in lines:
        texts = captions.get(name, [])
        if name in seen:
            problems.add(f'{where} lists the image "{name}" twice; drop one of the lines')
        elif name not in images:
            problems.add(f'{where} names the image "{name}", which is absent; add it or drop it')
        elif captioned and not texts and language != "en":
            # Not everything was translated: that is no fault of the copy, so never an error.
            problems.skipped.append(f'{where}: "{name}" has no caption in "{language}"')
        elif captioned and not texts:
            problems.add(f'{where}: the image "{name}" has no caption; add one or drop the line')
        else:
            origin = texts[0][1] if texts else where
            examples.append(Example(name, images[name], tuple(t for t, _ in texts), origin))
        seen.add(name)
    return examples
