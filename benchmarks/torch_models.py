"""PyTorch peers that are trained end to end: ResNet-50, ViT and the Transformer caption decoder.

Nothing here imports jax. Each module takes the arrays of ours by name ("blocks/0/conv1/kernel"),
and is what a careful PyTorch user would write: channels-last, fused query-key-value, fused SDPA.
"""

import torch
import torch.nn.functional as F
from torch import nn

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
REPEATS = (3, 4, 6, 3)


class Weights(nn.Module):
    """Named parameters; the layers [L, ...] of a stack become single ones, `buffers` are fixed."""

    def __init__(self, weights, stacks=(), buffers=()):
        super().__init__()
        self.p = nn.ParameterDict()
        for name, value in weights.items():
            stack = next((s for s in stacks if name.startswith(f"{s}/")), "")
            parts = {name: value}
            if stack:
                parts = {name.replace(stack, f"{stack}/{i}", 1): v for i, v in enumerate(value)}
            for key, part in parts.items():
                tensor = torch.tensor(part)
                if tensor.ndim == 4:  # HWIO
                    tensor = tensor.permute(3, 2, 0, 1)
                    tensor = tensor.contiguous(memory_format=torch.channels_last)
                fixed = key.endswith(buffers) if buffers else False
                self.p[self.clean(key)] = nn.Parameter(tensor, requires_grad=not fixed)

    @staticmethod
    def clean(name):
        return name.replace("/", "_")

    def get(self, name):
        return self.p.get(self.clean(name))

    def linear(self, name, x):
        y = x @ self.get(f"{name}/kernel")
        bias = self.get(f"{name}/bias")
        return y if bias is None else y + bias

    def norm(self, name, x):
        return F.layer_norm(
            x, x.shape[-1:], self.get(f"{name}/scale"), self.get(f"{name}/bias"), 1e-6
        )


class ResNet50(Weights):
    """On stored batch-norm averages, as pretrained encoders are tuned."""

    def __init__(self, weights):
        super().__init__(weights, buffers=("norm/mean", "norm/var"))

    def layer(self, name, x, stride=1):
        kernel = self.get(f"{name}/kernel")
        x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        stats = [self.get(f"{name}/norm/{part}") for part in ("mean", "var", "scale", "bias")]
        return F.batch_norm(x, *stats, training=False, eps=1e-5)

    def forward(self, images):
        """uint8 [B, H, W, 3] → grid [B, S, 2048]."""
        x = (images.float() - torch.tensor(MEAN)) / torch.tensor(STD)
        x = x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        x = F.max_pool2d(F.relu_(self.layer("stem", x, 2)), 3, 2, 1)
        index = 0
        for stage, count in enumerate(REPEATS):
            for i in range(count):
                name, stride = f"blocks/{index}", 2 if stage and i == 0 else 1
                y = F.relu_(self.layer(f"{name}/conv1", x))
                y = F.relu_(self.layer(f"{name}/conv2", y, stride))
                y = self.layer(f"{name}/conv3", y)
                if i == 0:
                    x = self.layer(f"{name}/shortcut", x, stride)
                x = F.relu_(x + y)
                index += 1
        return x.permute(0, 2, 3, 1).flatten(1, 2)


class Blocks(Weights):
    """Pre-norm Transformer blocks by name, as models/attention.py."""

    def attend(self, name, x, heads, memory=None, causal=False):
        """x [M, Q, W] on itself, or on memory [M, S, W]."""
        split = lambda y: y.unflatten(-1, (heads, -1)).transpose(-3, -2)  # noqa: E731
        names = ("query", "key", "value")
        if memory is None:
            kernel = torch.cat([self.get(f"{name}/{n}/kernel") for n in names], -1)
            bias = torch.cat([self.get(f"{name}/{n}/bias") for n in names])
            q, k, v = map(split, (x @ kernel + bias).chunk(3, -1))
        else:
            q = split(self.linear(f"{name}/query", x))
            k, v = (split(self.linear(f"{name}/{n}", memory)) for n in names[1:])
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.linear(f"{name}/out", y.transpose(-3, -2).flatten(-2))

    def feed(self, name, x, gelu):
        x = self.linear(f"{name}/mlp/up", self.norm(f"{name}/mlp_norm", x))
        return self.linear(f"{name}/mlp/down", F.gelu(x, approximate=gelu))


class ViT(Blocks):
    """Learned positions, a class token that the grid leaves out, exact GELU."""

    def __init__(self, weights, heads=6):
        super().__init__(weights, stacks=("blocks",))
        self.heads, self.depth = heads, len(weights["blocks/attn_norm/scale"])
        self.side = int((len(weights["patch/kernel"]) // 3) ** 0.5)

    def forward(self, images):
        """uint8 [B, H, W, 3] → grid [B, S, W]."""
        b, h, w, c = images.shape
        p = self.side
        x = images.float() / 127.5 - 1
        x = x.reshape(b, h // p, p, w // p, p, c).transpose(2, 3).reshape(b, -1, p * p * c)
        x = torch.cat([self.get("cls").expand(b, 1, -1), self.linear("patch", x)], 1)
        x = x + self.get("positions")
        for i in range(self.depth):
            name = f"blocks/{i}"
            x = x + self.attend(f"{name}/attn", self.norm(f"{name}/attn_norm", x), self.heads)
            x = x + self.feed(name, x, "none")
        return self.norm("norm", x)[:, 1:]


class Transformer(Blocks):
    """models/transformer.py without encoder layers, its words read out with the embedding."""

    def __init__(self, weights, dropout, heads=8):
        super().__init__(weights, stacks=("blocks",))
        self.heads, self.depth, self.dropout = (
            heads,
            len(weights["blocks/attn_norm/scale"]),
            dropout,
        )

    def forward(self, grid, tokens):
        """grid [B, S, D], tokens [B, N, T] → logits [B, N, T, V]."""
        drop = lambda x: F.dropout(x, self.dropout, self.training)  # noqa: E731
        (b, n, t), embedding = tokens.shape, self.get("embed/embedding")
        width = embedding.shape[1]
        memory = self.norm("grid_norm", self.linear("project", grid))
        x = (F.embedding(tokens, embedding) + self.get("positions")[:t]) * width**0.5
        x = drop(x)
        for i in range(self.depth):
            name = f"blocks/{i}"
            y = self.norm(f"{name}/attn_norm", x).flatten(0, 1)
            x = x + drop(self.attend(f"{name}/attn", y, self.heads, causal=True).view(x.shape))
            y = self.norm(f"{name}/cross_norm", x).reshape(b, n * t, width)
            x = x + drop(self.attend(f"{name}/cross", y, self.heads, memory).view(x.shape))
            x = x + drop(self.feed(name, x, "tanh"))
        return self.norm("norm", x) @ embedding.T
