"""Contact sheets: every image gets its card, long and Chinese captions stay inside theirs."""

import numpy as np
import pytest
from PIL import Image

from evaluators import samples
from evaluators.captions import Example


def example(caption, score=0.5, shape=(64, 64, 3)):
    return Example(image=np.full(shape, 200, np.uint8), caption=caption, score=score, name="x.jpg")


def test_saves_a_sheet_of_any_number(tmp_path):
    path = tmp_path / "samples" / "step_000123.png"
    shown = [example("a dog"), example("", None), example("wide", shape=(30, 90, 3))]
    shown += [example("两个女人坐在椅子上。" * 5), example("word " * 60)]
    sheet = samples.save_samples(path, shown, columns=4, cell=96)
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3
    assert (np.asarray(Image.open(path)) == sheet).all()
    one = samples.contact_sheet(shown[:1], cell=96)
    assert one.shape[0] < sheet.shape[0] and one.shape[1] < sheet.shape[1]
    with pytest.raises(ValueError, match="at least one example"):
        samples.contact_sheet([])


@pytest.mark.parametrize("text", ["some words of a caption " * 9, "雪地里的小狗狗" * 9, "x" * 300])
def test_wrap_stays_inside(text):
    font = samples.typeface(13)
    rows = samples.wrap(text, font, 150, 3)
    assert len(rows) == 3 and rows[-1].endswith("…")
    assert max(font.getlength(row) for row in rows) <= 150
    assert samples.wrap("short", font, 150, 3) == ["short"]


def test_colour_goes_from_red_to_green():
    red, green = samples.colour(0.0), samples.colour(5.0)
    assert red[0] > red[1] and green[1] > green[0]
    assert samples.goodness(0) == 0 < samples.goodness(0.5) < samples.goodness(8) < 1
