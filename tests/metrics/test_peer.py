"""Equality with pycocoevalcap and its Java programs on real captions, where they are installed.

Set CAPAX_PEER_PYTHON to a Python that has pycocoevalcap (or install it beside Capax), and have
Java; otherwise these tests are skipped. CAPAX_WORDNET adds METEOR's synonym module.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from metrics import jars
from metrics.ptb import tokenize
from metrics.score import score

TRICKY = [
    "A man's dog (brown) isn't here; it's 5'10\" tall...",
    "Texas A&amp;M's Mr. O'Brien, Jr. paid $5.50 at 10:30 p.m. in St. Louis!!",
    "1950's t-shirts & 80s hats: no. 5, 1,500-pound, 3/4, a/b, http://x.com :) #tag @me",
    "rock'n'roll 'til '90s y'all gonna wanna cannot don'ts “q” ‘r’ — x–y café ½ 10°",
]


@pytest.fixture(scope="module")
def peer():
    python = os.environ.get("CAPAX_PEER_PYTHON", "")
    if not python and importlib.util.find_spec("pycocoevalcap"):
        python = sys.executable
    if not python:
        pytest.skip("pycocoevalcap isn't installed and CAPAX_PEER_PYTHON isn't set")
    if not shutil.which("java"):
        pytest.skip("pycocoevalcap's tokeniser and METEOR need Java, which isn't on the PATH")

    def ask(**given):
        script = Path(__file__).with_name("peer.py")
        text = json.dumps({"raw": [], **given})
        done = subprocess.run([python, script], input=text, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return ask


@pytest.fixture(scope="module")
def captions(real_data):
    """Lists of 5 raw captions, one list for each Flickr8k image."""
    path = real_data("flickr8k", "Flickr8k_text", "Flickr8k.token.txt")
    groups = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, text = line.split("\t")
        groups.setdefault(name.split("#")[0], []).append(text)
    return list(groups.values())


@pytest.mark.parametrize("modules", ["exact stem", "exact stem synonym"])
def test_all_values_on_real_captions(peer, captions, modules):
    wordnet = os.environ.get("CAPAX_WORDNET")
    if "synonym" in modules and not wordnet:
        pytest.skip("CAPAX_WORDNET doesn't name a WordNet folder")
    tokens = [[tokenize(text) for text in texts] for texts in captions[:500]]
    results = [texts[0] for texts in tokens]
    references = [texts[1:] for texts in tokens]
    raw = [text for texts in captions[:3000] for text in texts] + TRICKY
    theirs = peer(results=results, references=references, raw=raw)
    folder = Path(theirs.pop("folder"))
    _, (whole, each) = jars.meteor(folder, results, references, modules)
    theirs["METEOR"] = {"corpus": whole, "per_image": each}
    assert theirs.pop("tokens") == [tokenize(text) for text in raw]
    pairs = dict(enumerate(results)), dict(enumerate(references))
    ours = score(*pairs, tokenizer="none", wordnet=wordnet if "synonym" in modules else None)
    for name, values in theirs.items():
        np.testing.assert_allclose(ours.per_image[name], values["per_image"], atol=1e-9)
        assert ours.corpus[name] == pytest.approx(values["corpus"], abs=1e-9)
