"""Run by the Python that has pycocoevalcap: scores JSON captions from stdin, JSON to stdout.

A separate process, because the suite itself must neither import pycocoevalcap nor need Java.
"""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pycocoevalcap
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer


def meteor(results: list[str], references: list[list[str]], modules: str) -> dict:
    """Scores of METEOR's jar, restricted to some of its modules."""
    folder = next(iter(pycocoevalcap.__path__))
    jar = Path(folder) / "meteor" / "meteor-1.5.jar"
    command = ["java", "-Dfile.encoding=UTF-8", "-Xmx2G", "-jar", str(jar)]
    command += ["-", "-", "-stdio", "-l", "en", "-norm", "-m", modules]

    def ask(lines: list[str]) -> list[str]:
        text = "".join(line + "\n" for line in lines)
        done = subprocess.run(command, input=text.encode(), capture_output=True, check=True)
        return done.stdout.decode().split("\n")[:-1]

    counts = ask(
        [
            " ||| ".join(["SCORE", *texts, result])
            for result, texts in zip(results, references, strict=True)
        ]
    )
    *each, whole = map(float, ask([" ||| ".join(["EVAL", *map(str.strip, counts)])]))
    return {"corpus": whole, "per_image": each}


def main() -> None:
    """{"raw", "results", "references", "modules"} -> {"tokens", "BLEU-1", …, "METEOR"}."""
    given = json.load(sys.stdin)
    answer = {}
    with contextlib.redirect_stdout(sys.stderr):
        lines = {i: [{"caption": text}] for i, text in enumerate(given["raw"])}
        if lines:
            tokens = PTBTokenizer().tokenize(lines)
            answer["tokens"] = [tokens[i][0] for i in lines]
        results = {i: [text] for i, text in enumerate(given["results"])}
        references = dict(enumerate(given["references"]))
        whole, each = Bleu(4).compute_score(references, results, verbose=0)
        for n in range(4):
            answer[f"BLEU-{n + 1}"] = {"corpus": whole[n], "per_image": list(each[n])}
        for name, scorer in (("ROUGE-L", Rouge()), ("CIDEr-D", Cider())):
            value, values = scorer.compute_score(references, results)
            answer[name] = {"corpus": float(value), "per_image": [float(v) for v in values]}
        answer["METEOR"] = meteor(given["results"], given["references"], given["modules"])
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
