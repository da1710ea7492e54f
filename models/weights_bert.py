"""Name maps of BERT as Hugging Face's `transformers` and sentence-transformers save it.

Passed over on purpose: `pooler`, a layer after the first token that only next-sentence prediction
used, the heads of pretraining (`cls`) and `position_ids`, which are 0, 1, 2, ... Epsilon, heads and
pooling are read from the JSON files beside the weights, where the publisher put them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from models.weight_layout import Arrays, Layout, Placed, beside, torch_leaf

TABLES = {
    "embeddings.word_embeddings": "words",
    "embeddings.position_embeddings": "positions",
    "embeddings.token_type_embeddings": "types",
}
BLOCK = {
    "attention.self.query": "attn/query",
    "attention.self.key": "attn/key",
    "attention.self.value": "attn/value",
    "attention.output.dense": "attn/out",
    "attention.output.LayerNorm": "attn_norm",
    "intermediate.dense": "mlp/up",
    "output.dense": "mlp/down",
    "output.LayerNorm": "mlp_norm",
}
PASSED = r"(pooler|cls)\.|embeddings\.position_ids$"
GELU = {"gelu": "exact", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}


def recognise(arrays: Arrays, path: Path) -> Layout | None:
    """The layout of these names, or None where they are not a BERT's.

    Raises ValueError where the `config.json` beside them tells of a model that only looks like one.
    """
    plain = {name.removeprefix("bert."): array for name, array in arrays.items()}
    if not {f"{table}.weight" for table in TABLES} <= plain.keys():
        return None
    about = beside(path)
    kind, gelu = about.get("model_type", "bert"), GELU.get(about.get("hidden_act", "gelu"))
    if kind != "bert" or gelu is None:
        raise ValueError(f"a {kind} with hidden_act={about.get('hidden_act')!r} is no BERT")
    arguments = _sizes(plain) | {"gelu": gelu}
    if "num_attention_heads" in about:
        arguments["heads"] = about["num_attention_heads"]
    settings = dict(
        vocab_size=len(plain["embeddings.word_embeddings.weight"]),
        eps=about.get("layer_norm_eps", 1e-12),
        **_pooling(path.parent),
    )
    return Layout("a Hugging Face BERT", "bert", arguments, settings, _place)


def _sizes(plain: Arrays) -> dict[str, int]:
    rows = [int(m[1]) for name in plain if (m := re.match(r"encoder\.layer\.(\d+)\.", name))]
    inner = [len(v) for k, v in plain.items() if k.endswith("intermediate.dense.weight")]
    positions, width = plain["embeddings.position_embeddings.weight"].shape
    return dict(
        width=width,
        depth=1 + max(rows, default=-1),
        mlp_width=inner[0] if inner else 0,
        positions=positions,
        types=len(plain["embeddings.token_type_embeddings.weight"]),
    )


def _pooling(folder: Path) -> dict[str, Any]:
    """What sentence-transformers does to the rows, in its files beside the weights; {} without.

    Raises ValueError for a pooling that the encoder does not have.
    """
    about, modules = folder / "1_Pooling" / "config.json", folder / "modules.json"
    if not (about.is_file() and modules.is_file()):
        return {}
    found = json.loads(about.read_text(encoding="utf-8"))
    modes = {k.removeprefix("pooling_mode_") for k, on in found.items() if on is True}
    modes.discard("include_prompt")
    names = {"mean_tokens": "mean", "cls_token": "cls"}
    if len(modes) != 1 or not modes <= names.keys():
        raise ValueError(f"{about} asks for the pooling {sorted(modes)}, not one of {[*names]}")
    steps = [step["type"] for step in json.loads(modules.read_text(encoding="utf-8"))]
    unit = any(step.endswith("Normalize") for step in steps)
    return {"pool": names[modes.pop()], "unit": unit}


def _place(name: str, array: np.ndarray) -> Placed:
    name = name.removeprefix("bert.")
    if re.match(PASSED, name):
        return {}
    module, _, leaf = name.rpartition(".")
    leaf = {"gamma": "weight", "beta": "bias"}.get(leaf, leaf)  # TensorFlow's, in the oldest files
    if module in TABLES:
        return {TABLES[module]: array}
    if module == "embeddings.LayerNorm":
        return torch_leaf("embed_norm", leaf, array)
    row = re.match(r"encoder\.layer\.(\d+)\.(.+)", module)
    ours = BLOCK.get(row[2]) if row else None
    return torch_leaf(ours and f"blocks@{row[1]}/{ours}", leaf, array)
