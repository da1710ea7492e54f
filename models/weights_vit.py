"""Name maps of Vision Transformers: timm's (one fused qkv) and Hugging Face's (three kernels).

Passed over on purpose: Hugging Face's `pooler`, a layer after the class token that only some
training used. Preprocessing is read from `config.json` or `preprocessor_config.json` beside the
file, where the publisher put one; else it is -1..1, that of Google's and timm's own weights.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from models.encoder import HALF
from models.weight_layout import Arrays, Layout, Placed, beside, centre, preprocessing, torch_leaf

TIMM = {
    "patch_embed.proj": "patch",
    "norm": "norm",
    "head": "head",
    "attn_pool.q": "map/attn/query",
    "attn_pool.kv": "map/attn/key+value",
    "attn_pool.proj": "map/attn/out",
    "attn_pool.norm": "map/norm",
    "attn_pool.mlp.fc1": "map/mlp/up",
    "attn_pool.mlp.fc2": "map/mlp/down",
    "cls_token": "cls",
    "pos_embed": "positions",
    "attn_pool.latent": "map/probe",
}
TIMM_BLOCK = {
    "norm1": "attn_norm",
    "attn.qkv": "attn/query+key+value",
    "attn.proj": "attn/out",
    "norm2": "mlp_norm",
    "mlp.fc1": "mlp/up",
    "mlp.fc2": "mlp/down",
}
HUGGING_FACE = {
    "embeddings.patch_embeddings.projection": "patch",
    "layernorm": "norm",
    "classifier": "head",
    "embeddings.cls_token": "cls",
    "embeddings.position_embeddings": "positions",
}
HUGGING_FACE_BLOCK = {
    "layernorm_before": "attn_norm",
    "attention.attention.query": "attn/query",
    "attention.attention.key": "attn/key",
    "attention.attention.value": "attn/value",
    "attention.output.dense": "attn/out",
    "layernorm_after": "mlp_norm",
    "intermediate.dense": "mlp/up",
    "output.dense": "mlp/down",
}


def recognise(arrays: Arrays, path: Path) -> Layout | None:
    """The layout of these names, or None where they are neither timm's nor Hugging Face's."""
    stems = {re.sub(r"^(vit|deit)\.", "", name): name for name in arrays}
    if "patch_embed.proj.weight" in stems:
        names, block, prefix, who = TIMM, TIMM_BLOCK, r"blocks\.(\d+)\.", "timm"
    elif "embeddings.patch_embeddings.projection.weight" in stems:
        names, block, who = HUGGING_FACE, HUGGING_FACE_BLOCK, "Hugging Face"
        prefix = r"encoder\.layer\.(\d+)\."
    else:
        return None

    def module(name: str) -> str | None:
        """A module's or bare parameter's name -> our path."""
        row = re.match(prefix, name)
        if row is None:
            return names.get(name)
        ours = block.get(name.removeprefix(row[0]))
        return ours and f"blocks@{row[1]}/{ours}"

    arguments, size = _arguments({k: arrays[v] for k, v in stems.items()}, prefix)
    about = beside(path)
    heads = about.get("num_attention_heads")
    arguments |= {"heads": heads} if heads else {}
    settings = dict(mean=HALF, std=HALF, channels="rgb", image_size=size) | preprocessing(about)
    place = _placer(module, arguments["class_token"])
    return Layout(f"a {who} ViT", "vit", arguments, settings, place, size, centre(about))


def _placer(module: Callable[[str], str | None], class_token: bool) -> Callable[..., Placed]:
    def place(name: str, array: np.ndarray) -> Placed:
        name = re.sub(r"^(vit|deit)\.", "", name)
        if name.startswith("pooler."):
            return {}
        if bare := module(name):  # cls_token, pos_embed, latent: [1, rows, D]
            rows = array[0]
            if bare == "positions" and class_token and _is_square(len(rows)):
                rows = np.concatenate([np.zeros_like(rows[:1]), rows])  # the token has none
            return {bare: rows}
        parent = module(name.rpartition(".")[0])
        if parent == "patch" and array.ndim == 4:  # [D, 3, p, p] → [p*p*3, D]
            return {"patch/kernel": array.transpose(2, 3, 1, 0).reshape(-1, len(array))}
        *head, parts = (parent or "").split("/")
        fused = parts.split("+")
        if parent is None or len(fused) == 1:
            return torch_leaf(parent, name, array)
        placed = {}
        for part, piece in zip(fused, np.split(array, len(fused)), strict=True):
            placed |= torch_leaf("/".join([*head, part]), name, piece) or {}
        return placed

    return place


def _is_square(count: int) -> bool:
    return round(count**0.5) ** 2 == count


def _arguments(arrays: Arrays, prefix: str) -> tuple[dict[str, Any], int]:
    """(arguments of the encoder that was saved, its image size)."""
    kernel = next(v for k, v in arrays.items() if k.startswith(("patch_", "embeddings.patch_")))
    width, _, patch, _ = kernel.shape
    inner = next(v for k, v in arrays.items() if re.search(r"(fc1|intermediate\.dense)\.weight", k))
    table = next(v for k, v in arrays.items() if re.search("pos(_embed|ition_embeddings)$", k))
    head = next((v for k, v in arrays.items() if k in ("head.weight", "classifier.weight")), ())
    arguments = dict(
        width=width,
        depth=1 + max(int(m[1]) for k in arrays if (m := re.match(prefix, k))),
        mlp_width=len(inner),
        patch=patch,
        class_token=any(k.endswith("cls_token") for k in arrays),
        positions="learned",
        final_norm="norm.weight" in arrays or "layernorm.weight" in arrays,
        pool="map" if "attn_pool.latent" in arrays else "cls",
        num_classes=len(head),
    )
    return arguments, int(table.shape[1] ** 0.5) * patch
