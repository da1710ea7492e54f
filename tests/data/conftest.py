"""A tiny Flickr8k distribution, drawn in a moment, for the tests of the data room."""

import pytest
from pictures import jpeg

TEXT = "a dog runs over the green grass with one red ball in its big mouth"


@pytest.fixture
def flickr(tmp_path):
    """flickr(): a folder in the publishers' layout; train 0-9, dev 10-12, test 13-14."""

    def make(captions: dict[str, list[str]] | None = None):
        images, text = tmp_path / "Flicker8k_Dataset", tmp_path / "Flickr8k_text"
        images.mkdir()
        text.mkdir()
        names = [f"{i}.jpg" for i in range(15)]
        for i, name in enumerate(names):
            (images / name).write_bytes(jpeg(i))
        captions = captions or {
            name: [" ".join(TEXT.split()[: 3 + (i + k) % 10]) + " ." for k in range(5)]
            for i, name in enumerate(names[:13])
        }
        lines = [f"{n}#{k}\t{c}\n" for n, texts in captions.items() for k, c in enumerate(texts)]
        (text / "Flickr8k.token.txt").write_text("".join(lines))
        for split, part in (("train", names[:10]), ("dev", names[10:13]), ("test", names[13:])):
            (text / f"Flickr_8k.{split}Images.txt").write_text("\n".join(part) + "\n")
        return tmp_path

    return make
