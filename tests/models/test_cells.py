"""Every recurrent decoder's cell against its paper's equations, written out in NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import filled, jit

from models.aoa import AoA
from models.att2in import Att2in
from models.attention_lstm import AttentionLSTM
from models.functional import flatten, functional
from models.recurrent import Recurrent
from models.updown import Updown

V, D, S, W = 11, 6, 4, 8
GRID = jax.random.normal(jax.random.key(1), (1, S, D))
WORDS = (1, 7)
LOOK = dict(attention_width=5)
DECODERS = {
    "attention_lstm": partial(AttentionLSTM, context_width=7, **LOOK),
    "attention_lstm_plain": partial(AttentionLSTM, deep_output=False, **LOOK),
    "rnn": partial(Recurrent, cell="rnn"),
    "gru": partial(Recurrent, cell="gru", layers=2),
    "lstm": Recurrent,
    "maxout": partial(Recurrent, cell="maxout"),
    "every": partial(Recurrent, cell="rnn", feed="every"),
    "att2in": partial(Att2in, **LOOK),
    "updown": partial(Updown, embed_width=3, **LOOK),
    "aoa": partial(AoA, heads=2, refine_layers=1),
}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class Paper:
    """One decoder's parameters in float64, and each paper's equations for WORDS."""

    def __init__(self, params):
        self.p = {k: np.asarray(v, np.float64) for k, v in flatten(params).items()}
        self.grid = np.asarray(GRID[0], np.float64)
        self.words = [self.p["embed/embedding"][word] for word in WORDS]

    def __getitem__(self, name):
        return lambda x: x @ self.p[f"{name}/kernel"] + self.p.get(f"{name}/bias", 0)

    def lstm(self, gates, c):
        i, f, o, g = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c

    def look(self, h, values):
        e = self["score"](np.tanh(self["keys"](self.grid) + self["query"](h)))[:, 0]
        alpha = softmax(e)
        return alpha @ values, alpha

    def attention_lstm(self, deep=True):
        """Xu et al. 2015, equations 1-9 and 13."""
        c, h = (np.tanh(self[f"init_{k}"](self.grid.mean(0))) for k in "ch")
        for word in self.words:
            z, alpha = self.look(h, self["values"](self.grid))
            z = sigmoid(self["gate"](h)) * z
            gates = self["inputs"](word) + self["hidden"](h) + self["context"](z)
            h, c = self.lstm(gates, c)
        if not deep:
            return self["output"](h), alpha
        return self["output"](word + self["from_h"](h) + self["from_z"](z)), alpha

    def attention_lstm_plain(self):
        return self.attention_lstm(deep=False)

    def recurrent(self, cell, layers=1):
        """Vinyals et al. 2015, equations 10-12: x_{-1} = CNN(I), x_t = W_e S_t."""
        states = [(np.zeros(W), np.zeros(W)) for _ in range(layers)]
        for x in (self["image"](self.grid.mean(0)), *self.words):
            for layer in range(layers):
                name = f"cells/{layer}"
                inputs, hidden = self[f"{name}/inputs"](x), self[f"{name}/hidden"]
                states[layer] = cell(inputs, hidden, *states[layer])
                x = states[layer][0]
        return self["output"](x), np.ones(1)

    def rnn(self):
        return self.recurrent(lambda x, u, h, c: (np.tanh(x + u(h)), c))

    def gru(self):
        """PyTorch's documentation of nn.GRU."""

        def cell(x, u, h, c):
            (xr, xz, xn), (ur, uz, un) = np.split(x, 3), np.split(u(h), 3)
            r, z = sigmoid(xr + ur), sigmoid(xz + uz)
            return (1 - z) * np.tanh(xn + r * un) + z * h, c

        return self.recurrent(cell, layers=2)

    def lstm_(self):
        return self.recurrent(lambda x, u, h, c: self.lstm(x + u(h), c))

    def maxout_lstm(self, gates, c):
        i, f, o, one, two = np.split(gates, 5)
        c = sigmoid(i) * np.maximum(one, two) + sigmoid(f) * c
        return sigmoid(o) * np.tanh(c), c

    def maxout(self):
        """Rennie et al. 2017, FC model."""
        return self.recurrent(lambda x, u, h, c: self.maxout_lstm(x + u(h), c))

    def every(self):
        h, image = np.zeros(W), self["image"](self.grid.mean(0))
        for word in self.words:
            h = np.tanh(self["cells/0/inputs"](word) + image + self["cells/0/hidden"](h))
        return self["output"](h), np.ones(1)

    def att2in(self):
        """Rennie et al. 2017, Att2in: what is seen reaches the candidates only."""
        h, c = np.zeros(W), np.zeros(W)
        for word in self.words:
            seen, alpha = self.look(h, self.grid)
            gates = self["inputs"](word) + self["hidden"](h)
            gates[3 * W :] += self["context"](seen)
            h, c = self.maxout_lstm(gates, c)
        return self["output"](h), alpha

    def updown(self):
        """Anderson et al. 2018, equations 1-7, with the concatenations of equations 2 and 6."""
        p, (h1, c1, h2, c2) = self.p, np.zeros((4, W))
        names = ("attn_language", "attn_image", "inputs", "attn_hidden")
        first = np.concatenate([p[f"{name}/kernel"] for name in names])
        names = ("lang_context", "lang_attention", "lang_hidden")
        second = np.concatenate([p[f"{name}/kernel"] for name in names])
        for word in self.words:
            x = np.concatenate([h2, self.grid.mean(0), word, h1])
            h1, c1 = self.lstm(x @ first + p["inputs/bias"], c1)
            seen, alpha = self.look(h1, self.grid)
            x = np.concatenate([seen, h1, h2])
            h2, c2 = self.lstm(x @ second + p["lang_context/bias"], c2)
        return self["output"](h2), alpha

    def aoa_block(self, name, x, grid):
        """Huang et al. 2019, section 3.1: information times gate, of query and attended vector."""
        q = self[f"{name}/query"](x)
        k, v = self[f"{name}/key"](grid), self[f"{name}/value"](grid)
        heads = [slice(0, W // 2), slice(W // 2, W)]
        weights = [softmax(q[:, h] @ k[:, h].T / (W // 2) ** 0.5) for h in heads]
        seen = np.concatenate([w @ v[:, h] for w, h in zip(weights, heads, strict=True)], -1)
        both = self[f"{name}/from_query"](q) + self[f"{name}/from_seen"](seen)
        return sigmoid(both[:, W:]) * both[:, :W], np.mean(weights, 0)

    def aoa(self):
        self.p = {k: v[0] if "refiner" in k else v for k, v in self.p.items()}
        grid = self["project"](self.grid)
        grid = grid + self.aoa_block("refiner/attention", grid, grid)[0]
        grid = (grid - grid.mean(-1, keepdims=True)) / (grid.var(-1, keepdims=True) + 1e-6) ** 0.5
        grid = grid * self.p["refiner/norm/scale"] + self.p["refiner/norm/bias"]
        h, m, c = np.zeros((3, W))
        for word in self.words:
            x = np.concatenate([word, grid.mean(0) + c, h])
            names = ("inputs", "context", "hidden")
            kernel = np.concatenate([self.p[f"{name}/kernel"] for name in names])
            h, m = self.lstm(x @ kernel + self.p["inputs/bias"], m)
            c, alpha = (y[0] for y in self.aoa_block("attention", h[None], grid))
        return self["output"](c), alpha


@pytest.mark.parametrize("name", list(DECODERS))
def test_the_cell_is_the_papers(name):
    cls = DECODERS[name]
    model = functional(lambda rngs: cls(vocab_size=V, grid_width=D, width=W, rngs=rngs))
    params = filled(model)["params"]
    logits, alpha = getattr(Paper(params), "lstm_" if name == "lstm" else name)()
    out = jit(model.apply)({"params": params}, GRID, jnp.array([[WORDS]]))
    np.testing.assert_allclose(out["logits"][0, 0, -1], logits, atol=2e-5)
    np.testing.assert_allclose(out["attention"][0, 0, -1], alpha, atol=1e-5)
