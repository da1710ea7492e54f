"""report.html: complete, self-contained, safe against what captions may contain, honest maps."""

import html.parser
import io
import itertools
import re

import numpy as np
import pytest
from PIL import Image

from evaluators import curves, maps, report
from evaluators.baselines import HUMAN, NEIGHBOUR, RANDOM
from evaluators.captions import Captions, Example
from evaluators.page import brief
from metrics.slices import OBJECT, TRUTH, Slice

SCORES = [
    ("dev: beam 3", {"BLEU-4": 0.2, "CIDEr-D": 0.48}),
    ("dev: greedy", {"BLEU-4": 0.17, "CIDEr-D": 0.42}),
    (f"dev: {RANDOM}", {"BLEU-4": 0.02, "CIDEr-D": 0.03}),
    (f"dev: {NEIGHBOUR}", {"BLEU-4": 0.08, "CIDEr-D": 0.24}),
    (f"dev: {HUMAN}", {"BLEU-4": 0.21, "CIDEr-D": 0.79}),
    ("test: beam 3", {"BLEU-4": 0.3, "CIDEr-D": 0.9, "vocabulary": 1234.0}),
]
HISTORY = [{"step": s, "loss": 5 - s / 100, "lr": 1e-3, "images/s": 9.0} for s in range(0, 400, 2)]
HISTORY += [{"step": s, "dev/CIDEr-D": s / 400, "dev/BLEU-1": 0.5} for s in (100, 200, 300)]


class Page(html.parser.HTMLParser):
    """Collects tags, classes, text and every address that a browser would ask for."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.classes, self.text, self.addresses = [], [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.classes += (attrs.get("class") or "").split()
        self.addresses += [attrs[k] for k in ("src", "href", "action", "xlink:href") if k in attrs]

    def handle_data(self, data):
        self.text += data


def example(caption="a dog runs", **kw):
    rng = np.random.default_rng(len(caption))
    words = caption.split()
    looked = rng.random((len(words), 9))
    values = dict(
        image=rng.integers(0, 255, (400, 640, 3), dtype=np.uint8),
        caption=caption,
        references=["A dog.", "One dog runs ."],
        words=words,
        attention=looked / looked.sum(1, keepdims=True),
        score=0.4,
        name="1.jpg",
    )
    return Example(**(values | kw))


def write(tmp_path, **kw):
    values = dict(title="t", facts={}, history=HISTORY, scores=SCORES, examples=[example()])
    path = report.write_report(tmp_path / "deep" / "report.html", **(values | kw))
    return Page(path.read_text("utf-8")), path


def test_the_page_is_complete_and_asks_nobody(tmp_path):
    facts = {"machine": "2 cores", "signature": "tok:ptb", "command": "python train.py"}
    facts["start-up"] = "line one\nline two"
    shown = [example("a dog runs fast"), example("两个女人坐在椅子上。", words=list("两个女人"))]
    page, path = write(
        tmp_path, facts=facts, examples=shown, best=[example()] * 2, worst=[example()]
    )
    assert page.classes.count("example") == 2 and page.classes.count("word") == 4 + 1
    assert page.tags.count("svg") == 3 and page.tags.count("tr") == 1 + len(SCORES)
    for said in (
        "2 cores",
        "tok:ptb",
        "python train.py",
        "line two",
        "两个女人坐在椅子上。",
        "1,234",
    ):
        assert said in page.text
    assert all(a.startswith(("#", "data:")) for a in page.addresses)
    source = path.read_text("utf-8")
    assert not re.search(r"url\((?!data:|#|\"data:)|@import|<link|<img", source)
    assert "prefers-color-scheme: dark" in source
    assert list(path.parent.iterdir()) == [path]


def test_24_photographs_stay_below_six_megabytes(tmp_path):
    noise = [example(" ".join(["word"] * 14) + f" {i}") for i in range(24)]  # noise packs worst
    _, path = write(tmp_path, examples=noise, best=noise[:8], worst=noise[:8])
    assert path.stat().st_size < 6e6


def test_captions_cannot_break_the_page(tmp_path):
    evil = '</h3><script>alert("x")</script>'
    page, _ = write(tmp_path, title=evil, examples=[example(evil, references=[evil], name=evil)])
    assert page.tags.count("script") == 1  # ours
    assert evil in page.text


def test_a_run_with_nothing_yet_still_has_a_page(tmp_path):
    bare = example("", score=None, references=(), words=(), attention=None)
    page, _ = write(tmp_path, history=[], scores=[], examples=[bare])
    assert "(empty)" in page.text and "svg" not in page.tags and "table" not in page.tags


def opacity(looked):
    return np.asarray(Image.open(io.BytesIO(maps.png(maps.heat(looked)))).convert("RGBA"))


def test_heat_lights_the_patch_and_darkens_the_rest():
    looked = np.full((7, 7), 0.005)
    looked[1, 5] = 1 - looked.sum()
    pixels = opacity(looked)
    side = len(pixels)
    peak = pixels[int(1.5 / 7 * side), int(5.5 / 7 * side)]
    far = pixels[-2, 1]
    assert peak[0] > 200 and peak[2] < 120  # amber
    assert far[3] > 130 and far[:3].max() < 60  # dark glass
    flat = opacity(np.full((7, 7), 1 / 49))
    assert np.ptp(flat[..., 3].astype(int)) == 0 and flat[0, 0, 0] < 100  # looked nowhere: no glow


@pytest.mark.parametrize(
    "patches, ratio, want", [(49, 1, (7, 7)), (12, 4 / 3, (3, 4)), (8, 0.5, (4, 2))]
)
def test_grid_shape(patches, ratio, want):
    assert maps.grid_shape(patches, ratio) == want


def test_best_is_bold_among_models_of_its_split_only():
    rows = report.score_table(SCORES)["rows"]
    bold = [(row["name"], i) for row in rows for i, c in enumerate(row["cells"]) if c["best"]]
    assert bold == [("dev: beam 3", 0), ("dev: beam 3", 1)]
    assert [row["name"] for row in rows if row["first"]] == ["test: beam 3"]
    assert [row["baseline"] for row in rows] == [False, False, True, True, True, False]
    assert rows[0]["cells"][2]["text"] == "–"


def test_numbers_are_short():
    said = [report.number(v) for v in (0.48234, 0, 2e-9, 1234.0, 10.0, None, float("nan"))]
    assert said == ["0.482", "0.000", "<0.001", "1,234", "10.000", "–", "–"]
    assert [brief(v) for v in (2.5442, 3.01e-4, 12345, 0)] == [
        "2.54",
        "0.000301",
        "12,345",
        "0",
    ]


def test_headline_labels_never_overlap():
    close = [("dev: m", {"CIDEr-D": 0.4})]
    close += [
        (f"dev: {n}", {"CIDEr-D": 0.4 + k / 100}) for k, n in enumerate((RANDOM, NEIGHBOUR, HUMAN))
    ]
    marks = report.headlines(close)[0]["marks"]
    assert len({m["line"] for m in marks}) > 1
    for line in {m["line"] for m in marks}:
        row = sorted((m["left"], len(m["label"])) for m in marks if m["line"] == line)
        assert all(b[0] - a[0] > 2.2 * a[1] for a, b in itertools.pairwise(row))
    assert report.headlines(SCORES)[0]["value"] == "0.480"
    assert [m["label"] for m in report.headlines(SCORES)[0]["marks"]][-1] == "human"


def test_curves_show_what_matters_and_survive_gaps():
    rows = [*HISTORY, {"step": 500, "loss": float("nan"), "dev/CIDEr-D": None}, {"note": 3}]
    found = curves.panels(rows)
    assert list(found) == ["loss", "CIDEr-D", "lr"]
    assert list(found["CIDEr-D"]) == ["dev"] and found["loss"]["train"][-1][0] == 398
    drawn = curves.draw(rows)
    assert drawn[1]["series"][0]["best"] == 0.75 and "best" not in drawn[0]["series"][0]
    for panel in drawn:
        assert "var(--series-0)" in panel["svg"] and not re.search(r"#0\d0\d0\d", panel["svg"])
        assert "width=" not in panel["svg"].split(">")[0]


def test_smoothing_keeps_straight_lines_straight():
    line = np.linspace(3, 1, 300)
    assert np.allclose(curves._smooth(line), line)


def test_slices_stand_in_two_tables_with_bars_to_the_columns_best(tmp_path):
    parts = [Slice("", "all", 900, {"BLEU-4": 0.2, "CIDEr-D": 0.5, "BLEU-1": 0.6})]
    parts += [Slice(TRUTH, "≤ 9 words", 400, {"BLEU-4": 0.1, "CIDEr-D": 1.0})]
    parts += [Slice(OBJECT, "dog", 1234, {"BLEU-4": 0.4, "CIDEr-D": 0.7})]
    table = report.slice_table(parts)
    assert table["columns"] == ["BLEU-4", "CIDEr-D"]
    assert [list(kinds) for kinds in table["tables"]] == [["", TRUTH], [OBJECT]]
    [dog] = table["tables"][1][OBJECT]
    assert [c["share"] for c in dog["cells"]] == [100, 70] and dog["images"] == "1,234"
    page, _ = write(tmp_path, parts=parts)
    assert page.tags.count("table") == 3 and "references say" in page.text
    alone, _ = write(tmp_path, parts=parts[:1])  # all images: the score table says it already
    assert alone.tags.count("table") == 1


def test_the_error_gallery_says_what_went_wrong_and_how_often(tmp_path):
    worst = [example("a dog dog", tags=("repeats: dog", "<b>"))]
    page, _ = write(tmp_path, worst=worst, habits={"repeats": 0.125})
    assert page.classes.count("tag") == 2 and "<b>" in page.text and "b" in page.tags
    assert "12.5 %" in page.text and "the same words twice" in page.text


def test_report_of_a_run(tmp_path, data, variables, make_predict):
    evaluator = Captions(make_predict(), data, batch_size=4)
    values = evaluator.run(variables)
    evaluator.decoded.captions["dev_3.jpg"] = "a blue hat hat"  # said after the scores were taken
    path = report.report_of(
        tmp_path / "r.html", evaluator, title="x", facts={}, history=[], scores=[("dev: m", values)]
    )
    page = Page(path.read_text("utf-8"))
    assert "too short" in page.text or "repeats" in page.text
    assert len(list((tmp_path / "attention").iterdir())) == 13
    assert page.classes.count("example") == 13
    assert "Best by CIDEr-D" in page.text and "Worst by CIDEr-D" in page.text
    assert "tok:ptb" in page.text
