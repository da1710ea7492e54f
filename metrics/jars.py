"""METEOR and SPICE by their authors' Java programs, for numbers exactly as older papers print them.

Optional: Capax scores METEOR itself, all but the jar's paraphrases (metrics/meteor.py). SPICE has
no other implementation; beside its jar it needs Stanford CoreNLP, which must be downloaded by hand.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

VARIABLE = "CAPAX_JARS"
METEOR, SPICE = "meteor-1.5.jar", "spice-1.0.jar"
CORENLP = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")

Value = tuple[float, np.ndarray]  # (corpus score, score of each image [B])


def jar_scores(
    folder: str | None, candidates: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[dict[str, Value], list[str]]:
    """({name: value}, a sentence for each jar that cannot run) of tokenised captions.

    folder: holds the jars, or is pycocoevalcap's; None or "" means the variable CAPAX_JARS.
    Raises ValueError where nothing can run: no folder, no Java, no jar.
    """
    folder = folder or os.environ.get(VARIABLE, "")
    if not folder:
        raise ValueError(f"--jars needs a folder: --jars=DIR, or set {VARIABLE} to it")
    if not shutil.which("java"):
        raise ValueError("--jars needs Java, and there is no java on the PATH; install a JRE")
    found, notes = {}, []
    for run in (meteor, spice):
        try:
            name, value = run(Path(folder), candidates, references)
            found[name] = value
        except FileNotFoundError as error:
            notes.append(str(error))
    if not found:
        raise ValueError("; ".join(notes))
    return found, notes


def find(folder: Path, jar: str) -> Path:
    """The jar in the folder or one below. Raises FileNotFoundError."""
    for path in (folder / jar, *sorted(folder.glob(f"*/{jar}"))):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{folder} has no {jar}, neither itself nor in a folder of it")


def meteor(
    folder: Path,
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    modules: str = "",
) -> tuple[str, Value]:
    """METEOR 1.5, by default with every module that the folder has data for."""
    jar = find(folder, METEOR)
    paraphrases = (jar.parent / "data" / "paraphrase-en.gz").is_file()
    modules = modules or "exact stem synonym" + " paraphrase" * paraphrases
    command = ["java", "-Dfile.encoding=UTF-8", "-Xmx2G", "-jar", str(jar), "-", "-", "-stdio"]
    command += ["-l", "en", "-norm", "-m", modules]
    pairs = zip(candidates, references, strict=True)
    counts = _ask(command, [_line("SCORE", *texts, candidate) for candidate, texts in pairs])
    *each, whole = map(float, _ask(command, [_line("EVAL", *map(str.strip, counts))]))
    return f"METEOR.jar ({modules.replace(' ', '+')})", (whole, np.array(each))


def _line(*parts: str) -> str:
    return " ||| ".join(part.replace("|||", " ") for part in parts)


def _ask(command: Sequence[str], lines: Sequence[str]) -> list[str]:
    text = "".join(f"{line}\n" for line in lines)
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
    answers = done.stdout.decode().split("\n")[:-1]
    if done.returncode or len(answers) < len(lines):
        raise ValueError(f"METEOR's jar failed: {_reason(done.stderr)}")
    return answers


def _reason(stderr: bytes) -> str:
    """The last line that a Java program complained with, without its stack."""
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines()]
    lines = [line for line in lines if line and not line.startswith("at ")]
    return lines[-1] if lines else "it said nothing"


def spice(
    folder: Path, candidates: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[str, Value]:
    """SPICE 1.0 (Anderson et al., ECCV 2016): F1 over scene-graph tuples, mean over images."""
    jar = find(folder, SPICE)
    missing = [name for name in CORENLP if not (jar.parent / "lib" / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"SPICE is left out: it needs {' and '.join(missing)} of Stanford CoreNLP 3.6.0 in "
            f"{jar.parent / 'lib'}, which Capax does not download"
        )
    pairs = zip(candidates, references, strict=True)
    rows = [{"image_id": i, "test": c, "refs": list(r)} for i, (c, r) in enumerate(pairs)]
    with tempfile.TemporaryDirectory() as scratch:
        given, answer = Path(scratch) / "given.json", Path(scratch) / "answer.json"
        given.write_text(json.dumps(rows), encoding="utf-8")
        # No -cache: its database is what breaks on today's Java.
        command = ["java", "-Xmx8G", "-jar", str(jar), str(given), "-out", str(answer), "-silent"]
        done = subprocess.run(command, cwd=jar.parent, capture_output=True, check=False)
        if done.returncode or not answer.is_file():
            raise ValueError(f"SPICE's jar failed: {_reason(done.stderr)}")
        scored = json.loads(answer.read_text(encoding="utf-8"))
    each = np.zeros(len(rows))
    for row in scored:
        each[row["image_id"]] = row["scores"]["All"]["f"]
    return "SPICE.jar", (float(each.mean()), each)
