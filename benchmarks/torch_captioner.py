"""The peer of benchmarks/train_step.py: the same captioner and AdamW step in plain PyTorch.

Runs under an interpreter that has torch (nothing here imports jax): reads the weights and the batch
from an .npz, then answers one JSON line for each line it is sent.
"""

import json
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch_models import ResNet50, Transformer, ViT

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2))
STAGES += ((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
EPS = 1e-3


def same(x, size, stride):
    """TensorFlow's SAME padding: the odd pixel goes below and right."""
    pads = []
    for length in (x.shape[3], x.shape[2]):
        total = max((-(-length // stride) - 1) * stride + size - length, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


class MobileNetV2(nn.Module):
    """Frozen, batch norm folded: what a careful PyTorch user would run."""

    def __init__(self, weights):
        super().__init__()
        self.layers = []
        self._add(weights, "stem", 2, True)
        index = 0
        for expansion, outputs, repeats, stride in STAGES:
            for i in range(repeats):
                name, first = f"blocks/{index}", len(self.layers)
                if expansion > 1:
                    self._add(weights, f"{name}/expand", 1, True)
                self._add(weights, f"{name}/depthwise", stride if i == 0 else 1, True)
                self._add(weights, f"{name}/project", 1, False)
                inputs = weights[f"{name}/{'expand' if expansion > 1 else 'depthwise'}/kernel"]
                wide = inputs.shape[2] if expansion > 1 else outputs + 1
                self.layers[first]["start"] = True
                if (stride == 1 or i > 0) and wide == outputs:
                    self.layers[-1]["residual"] = True
                index += 1
        self._add(weights, "conv_1", 1, True)

    def _add(self, weights, name, stride, relu):
        kernel, scale = weights[f"{name}/kernel"], weights[f"{name}/norm/scale"]
        multiplier = scale / np.sqrt(weights[f"{name}/norm/var"] + EPS)
        bias = weights[f"{name}/norm/bias"] - weights[f"{name}/norm/mean"] * multiplier
        kernel = torch.tensor(kernel * multiplier).permute(3, 2, 0, 1)
        self.layers.append(
            dict(
                weight=kernel.contiguous(memory_format=torch.channels_last),
                bias=torch.tensor(bias),
                stride=stride,
                size=kernel.shape[2],
                groups=kernel.shape[0] if "depthwise" in name else 1,
                relu=relu,
            )
        )

    @torch.no_grad()
    def forward(self, images):
        """uint8 [B, H, W, 3] → grid [B, S, 1280]."""
        x = images.permute(0, 3, 1, 2).float() / 127.5 - 1
        x = x.contiguous(memory_format=torch.channels_last)
        kept = x
        for layer in self.layers:
            if layer.get("start"):
                kept = x
            how = dict(stride=layer["stride"], groups=layer["groups"])
            padded = same(x, layer["size"], layer["stride"]) if layer["size"] > 1 else x
            x = F.conv2d(padded, layer["weight"], layer["bias"], **how)
            x = x.clamp_(0, 6) if layer["relu"] else x
            x = kept + x if layer.get("residual") else x
        return x.permute(0, 2, 3, 1).flatten(1, 2)


class AttentionLSTM(nn.Module):
    """Show, Attend and Tell, as models/attention_lstm.py: everything hoisted that can be."""

    def __init__(self, weights, dropout):
        super().__init__()
        self.dropout = dropout
        self.p = nn.ParameterDict(
            {k.replace("/", "_"): nn.Parameter(torch.tensor(v)) for k, v in weights.items()}
        )

    def linear(self, name, x):
        y = x @ self.p[f"{name}_kernel"]
        return y + self.p[f"{name}_bias"] if f"{name}_bias" in self.p else y

    def start(self, grid, captions):
        """grid [B, S, D] → (keys and values of the image, (c, h) [B, N, W])."""
        mean = grid.mean(1)
        state = [torch.tanh(self.linear(k, mean)) for k in ("init_c", "init_h")]
        carry = tuple(s[:, None].expand(len(grid), captions, -1) for s in state)
        return (self.linear("keys", grid), self.linear("values", grid)), carry

    def cell(self, memory, carry, gates):
        """One word; gates [B, N, 4W] hold its own share → ((c, h), z)."""
        (keys, values), (c, h) = memory, carry
        energy = torch.tanh(keys[:, None] + self.linear("query", h)[:, :, None])
        alpha = self.linear("score", energy)[..., 0].softmax(-1)
        z = torch.sigmoid(self.linear("gate", h)) * (alpha @ values)
        x = gates + self.linear("hidden", h) + self.linear("context", z)
        i, f, o, g = x.chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return (c, torch.sigmoid(o) * torch.tanh(c)), z

    def logits(self, words, h, z):
        return self.linear("output", words + self.linear("from_h", h) + self.linear("from_z", z))

    def forward(self, grid, tokens):
        """grid [B, S, D], tokens [B, N, T] → logits [B, N, T, V]."""
        drop = lambda x: F.dropout(x, self.dropout, self.training)  # noqa: E731
        memory, carry = self.start(grid, tokens.shape[1])
        words = drop(F.embedding(tokens, self.p["embed_embedding"]))
        gates = self.linear("inputs", words)
        hs, zs = [], []
        for t in range(tokens.shape[2]):
            carry, z = self.cell(memory, carry, gates[:, :, t])
            hs.append(carry[1])
            zs.append(z)
        return self.logits(words, drop(torch.stack(hs, 2)), torch.stack(zs, 2))


ENCODERS = {"mobilenet_v2": MobileNetV2, "resnet": ResNet50, "vit": ViT}
DECODERS = {"attention_lstm": AttentionLSTM, "transformer": Transformer}


def main(path, dropout, threads, encoder, decoder):
    torch.set_num_threads(threads)
    data = dict(np.load(path))
    part = lambda name: {k.split(name)[1]: v for k, v in data.items() if name in k}  # noqa: E731
    encoded = any("/encoder/" in k for k in data)
    encoder = ENCODERS[encoder](part("/encoder/")) if encoded else None
    decoder = DECODERS[decoder](part("/decoder/"), dropout)
    inputs, tokens = torch.tensor(data["inputs"]), torch.tensor(data["tokens"]).long()
    parameters = [p for m in (encoder, decoder) if m for p in m.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01)

    def loss():
        grid = encoder(inputs) if encoder else inputs.float()
        logits = decoder(grid, tokens[..., :-1])
        target = tokens[..., 1:]
        return F.cross_entropy(logits.flatten(0, 2), target.flatten(), ignore_index=0)

    def step():
        optimizer.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return value

    decoder.eval()
    value = loss()
    value.backward()
    norm = torch.sqrt(sum((p.grad**2).sum() for p in parameters if p.grad is not None))
    print(json.dumps(dict(loss=value.item(), grad_norm=norm.item())), flush=True)
    decoder.train()
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            step()
        print(json.dumps(dict(seconds=time.perf_counter() - start)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
