"""Run by the Python that has pycocoevalcap: scores JSON captions from stdin, JSON to stdout.

A separate process, because the suite itself must neither import pycocoevalcap nor need Java.
"""

import contextlib
import json
import sys

import pycocoevalcap
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer


def main() -> None:
    """{"raw", "results", "references"} -> {"folder", "tokens", "BLEU-1", …, "CIDEr-D"}."""
    given = json.load(sys.stdin)
    answer = {"folder": next(iter(pycocoevalcap.__path__))}
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
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
