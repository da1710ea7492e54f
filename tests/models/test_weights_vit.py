"""Vision Transformers under timm's and Hugging Face's names: logits, positions, preprocessing."""

import json
from functools import partial

import pytest

from models import pretrained
from models.vit import ViT
from tests.models.torch_parity import HALF, F, check, nn, randomise, torch


class TorchViT(nn.Module):
    """pool "map" is SigLIP's: no class token, one learned query attends to the patches."""

    def __init__(self, width=32, depth=5, heads=2, patch=8, size=32, classes=10, pool="cls"):
        super().__init__()
        rows, self.pool = (size // patch) ** 2, pool
        if pool == "cls":
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, rows + (pool == "cls"), width))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, patch, patch)
        blocks = []
        for _ in range(depth):
            block = nn.Module()
            block.norm1, block.norm2 = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
            block.attn, block.mlp = nn.Module(), nn.Module()
            block.attn.qkv, block.attn.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
            block.mlp.fc1, block.mlp.fc2 = nn.Linear(width, 64), nn.Linear(64, width)
            blocks.append(block)
        self.blocks, self.heads = nn.ModuleList(blocks), heads
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, classes)
        if pool == "map":
            last = self.attn_pool = nn.Module()
            last.latent = nn.Parameter(torch.zeros(1, 1, width))
            last.q, last.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
            last.proj, last.norm = nn.Linear(width, width), nn.LayerNorm(width, eps=1e-6)
            last.mlp = nn.Module()
            last.mlp.fc1, last.mlp.fc2 = nn.Linear(width, 64), nn.Linear(64, width)

    def attend(self, *qkv):
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in qkv)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def forward(self, x):
        x = self.patch_embed.proj(x).flatten(2).transpose(1, 2)
        x = x if self.pool == "map" else torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)
        x = x + self.pos_embed
        for block in self.blocks:
            x = x + block.attn.proj(self.attend(*block.attn.qkv(block.norm1(x)).chunk(3, -1)))
            x = x + block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(x))))
        x = self.norm(x)
        if self.pool == "map":
            last = self.attn_pool
            query = last.q(last.latent).expand(len(x), -1, -1)
            x = last.proj(self.attend(query, *last.kv(x).chunk(2, -1)))
            x = x + last.mlp.fc2(F.gelu(last.mlp.fc1(last.norm(x))))
        return self.head(x[:, 0])


SMALL_VIT = dict(width=32, depth=5, heads=2, mlp_width=64, patch=8, num_classes=10)


def hugging_face(state):
    """timm's names and fused kernels -> those of transformers' ViTForImageClassification."""
    names = {
        "cls_token": "vit.embeddings.cls_token", "pos_embed": "vit.embeddings.position_embeddings",
        "patch_embed.proj": "vit.embeddings.patch_embeddings.projection", "norm": "vit.layernorm",
        "head": "classifier", "norm1": "layernorm_before", "norm2": "layernorm_after",
        "attn.proj": "attention.output.dense", "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }  # fmt: skip
    out = {"vit.pooler.dense.weight": torch.zeros(32, 32)}
    for name, value in state.items():
        module, _, leaf = name.rpartition(".")
        prefix = ""
        if module.startswith("blocks."):
            _, i, module = module.split(".", 2)
            prefix = f"vit.encoder.layer.{i}."
        if module == "attn.qkv":
            for part, piece in zip(("query", "key", "value"), value.chunk(3), strict=True):
                out[f"{prefix}attention.attention.{part}.{leaf}"] = piece
        elif name in names:
            out[names[name]] = value
        else:
            out[f"{prefix}{names[module]}.{leaf}"] = value
    return out


@pytest.mark.parametrize("publisher", [dict, hugging_face], ids=["timm", "hugging_face"])
def test_vit(tmp_path, publisher):
    module = randomise(TorchViT())
    kw = dict(size=32, preprocessing=HALF, edit=publisher)
    loaded = check(module, partial(ViT, **SMALL_VIT), tmp_path, **kw)
    assert loaded.settings["image_size"] == 32
    assert ("pooler (1)" in loaded.says) == (publisher is hugging_face)


def test_vit_with_an_attention_pooling_head(tmp_path):
    encoder = partial(ViT, **SMALL_VIT, pool="map", class_token=False)
    check(randomise(TorchViT(pool="map")), encoder, tmp_path, size=32, preprocessing=HALF)
    with pytest.raises(ValueError, match=r"set model.encoder.class_token=False \(now True\)"):
        pretrained.load(tmp_path / "w.pth", partial(ViT, **SMALL_VIT))


def test_a_published_size_is_named_by_its_preset(tmp_path):
    shapes = {"patch_embed.proj.weight": (768, 3, 16, 16), "pos_embed": (1, 197, 768)}
    shapes |= {f"blocks.{i}.mlp.fc1.weight": (3072, 1) for i in range(12)}
    torch.save({k: torch.zeros(v) for k, v in shapes.items()}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"encoder.size='B' \(now 'Ti'\), model.encoder.patch"):
        pretrained.load(tmp_path / "w.pth", partial(ViT, size="Ti", patch=32))


def test_preprocessing_comes_from_the_files_beside_the_weights(tmp_path):
    torch.save(randomise(TorchViT()).state_dict(), tmp_path / "w.pth")
    about = {"pretrained_cfg": {"mean": [0.2, 0.4, 0.6], "std": [1.0, 0.5, 0.2]}}
    (tmp_path / "config.json").write_text(json.dumps(about))
    settings = pretrained.load(tmp_path / "w.pth", partial(ViT, **SMALL_VIT)).settings
    assert (settings["mean"], settings["std"]) == ((51.0, 102.0, 153.0), (255.0, 127.5, 51.0))
    about = {"image_mean": [0.1] * 3, "image_std": [0.2] * 3, "num_attention_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"is a timm ViT: set model.encoder.heads=4 \(now 2\)"):
        pretrained.load(tmp_path / "w.pth", partial(ViT, **SMALL_VIT))


@pytest.mark.parametrize(
    ("about", "share"),
    [
        ({"pretrained_cfg": {"crop_pct": 0.9}}, 0.9),
        ({"do_center_crop": True, "size": {"shortest_edge": 256}, "crop_size": 224}, 0.875),
        ({"do_center_crop": False, "size": 256, "crop_size": 224}, 1.0),
        ({}, 1.0),
    ],
)
def test_the_publishers_central_crop_travels_with_the_weights(tmp_path, about, share):
    torch.save(randomise(TorchViT()).state_dict(), tmp_path / "w.pth")
    (tmp_path / "config.json").write_text(json.dumps(about))
    encoder = partial(ViT, **SMALL_VIT)
    loaded = pretrained.load(tmp_path / "w.pth", encoder)
    assert loaded.crop == share
    assert ("of each side" in loaded.says) == (share < 1)
    ours = partial(encoder, **loaded.settings)
    pretrained.save(tmp_path / "ours.safetensors", loaded.variables, ours, crop=loaded.crop)
    assert pretrained.load(tmp_path / "ours.safetensors", encoder).crop == share
