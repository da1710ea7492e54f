"""The peers of benchmarks/meta_learning.py: MAML in PyTorch by torch.func, higher and TorchOpt.

Runs under an interpreter that has torch (nothing here imports jax): reads the weights and a batch
of episodes from an .npz, then answers one JSON line for each line it is sent. Where there is a
choice (a loop over tasks or `vmap`) both are tried first, and the faster one is kept.
"""

import contextlib
import itertools
import json
import sys
import time
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, grad, grad_and_value, vmap


class MLP(nn.Sequential):
    """x [B, F] → [B, O]."""

    def __init__(self, widths):
        layers = []
        for a, b in itertools.pairwise(widths):
            layers += [nn.Linear(a, b), nn.ReLU()]
        super().__init__(*layers[:-1])


class Conv4(nn.Module):
    """images [B, 1, 28, 28] → logits; batch norm always uses the batch."""

    def __init__(self, filters, ways):
        super().__init__()
        blocks = []
        for inputs in (1, filters, filters, filters):
            norm = nn.BatchNorm2d(filters, eps=1e-3, track_running_stats=False)
            conv = nn.Conv2d(inputs, filters, 3, padding=1, bias=False)
            blocks.append(nn.Sequential(conv, norm, nn.ReLU(), nn.MaxPool2d(2)))
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(filters, ways)

    def forward(self, x):
        return self.head(self.blocks(x).mean((2, 3)))


class Block(nn.Module):
    """Pre-norm; queries, keys and values by one product; attention that has second derivatives."""

    def __init__(self, width, heads):
        super().__init__()
        self.attn_norm, self.mlp_norm = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.heads = heads

    def forward(self, x, absent):
        split = lambda y: y.unflatten(-1, (self.heads, -1)).transpose(-3, -2)  # noqa: E731
        q, k, v = map(split, self.qkv(self.attn_norm(x)).chunk(3, -1))
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        y = scores.masked_fill(absent, -1e30).softmax(-1) @ v
        x = x + self.out(y.transpose(-3, -2).flatten(-2))
        return x + self.down(F.gelu(self.up(self.mlp_norm(x)), approximate="tanh"))


class Transformer(nn.Module):
    """tokens [B, T], 0 = padding → logits from the mean of the real tokens."""

    def __init__(self, vocabulary, width, depth, heads, positions, ways):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, ways)
        self.register_buffer("positions", torch.tensor(positions), persistent=False)
        self.scale = width**0.5

    def forward(self, tokens):
        real = tokens > 0
        x = self.embed(tokens) * self.scale + self.positions
        for block in self.blocks:
            x = block(x, ~real[:, None, None, :])
        real = real[..., None]
        return self.head((self.norm(x) * real).sum(1) / real.sum(1))


def by_func(net, loss, steps, rate, episodes, vectorised):
    """Gradients of pure functions of a dictionary of parameters."""
    params = {k: p.detach() for k, p in net.named_parameters()}
    run = lambda p, x, y: loss(functional_call(net, p, (x,)), y)  # noqa: E731

    def outer(params, x, y, query_x, query_y):
        for _ in range(steps):
            g = grad(run)(params, x, y)
            params = {k: p - rate * g[k] for k, p in params.items()}
        return run(params, query_x, query_y)

    def all_tasks(params, *episodes):
        return vmap(outer, (None, 0, 0, 0, 0))(params, *episodes).mean()

    def gradient():
        if vectorised:
            g, value = grad_and_value(all_tasks)(params, *episodes)
            return value, g.values()
        value, total = 0, None
        for episode in zip(*episodes, strict=True):
            g, one = grad_and_value(outer)(params, *episode)
            value += one
            total = g if total is None else {k: t.add_(g[k]) for k, t in total.items()}
        n = len(episodes[0])
        return value / n, [t.div_(n) for t in total.values()]

    return gradient


def of_tasks(net, loss, episodes, adapted):
    """A loop over tasks, whose gradients add up; `adapted(x, y)` holds the adapted network."""
    n = len(episodes[0])

    def gradient():
        net.zero_grad(set_to_none=True)
        value = 0
        for x, y, query_x, query_y in zip(*episodes, strict=True):
            with adapted(x, y) as tuned:
                one = loss(tuned(query_x), query_y) / n
                one.backward()
            value += one.detach()
        return value, [p.grad for p in net.parameters()]

    return gradient


def by_higher(net, loss, steps, rate, episodes):
    import higher

    inner = torch.optim.SGD(net.parameters(), lr=rate)

    @contextlib.contextmanager
    def adapted(x, y):
        with higher.innerloop_ctx(net, inner, copy_initial_weights=False) as (tuned, optimizer):
            for _ in range(steps):
                optimizer.step(loss(tuned(x), y))
            yield tuned

    return of_tasks(net, loss, episodes, adapted)


def by_torchopt(net, loss, steps, rate, episodes):
    import torchopt

    inner = torchopt.MetaSGD(net, lr=rate)
    start = torchopt.extract_state_dict(net, by="reference")
    first = torchopt.extract_state_dict(inner, by="reference")

    @contextlib.contextmanager
    def adapted(x, y):
        for _ in range(steps):
            inner.step(loss(net(x), y))
        yield net
        torchopt.recover_state_dict(net, start)
        torchopt.recover_state_dict(inner, first)

    return of_tasks(net, loss, episodes, adapted)


NETS = {"MLP": MLP, "Conv4": Conv4, "Transformer": Transformer}
LOSSES = {"mse": F.mse_loss, "cross_entropy": F.cross_entropy}
PEERS = {
    "torch.func": {k: partial(by_func, vectorised=k == "vmap") for k in ("vmap", "loop")},
    "higher": {"loop": by_higher},
    "torchopt": {"loop": by_torchopt},
}


def prepared(path, peer, dtype):
    """(network with the given weights, {how: gradient()}) of the problem in a file."""
    data = np.load(path)
    spec = json.loads(str(data["spec"]))
    name, options = spec["net"]
    net = NETS[name](**options)
    weights = {k.removeprefix("weight:"): torch.tensor(v) for k, v in data.items() if ":" in k}
    net.load_state_dict(weights)
    net.to(dtype)
    episodes = [torch.tensor(data[f"episodes{i}"]) for i in range(4)]
    episodes = [x.to(dtype) if x.is_floating_point() else x.long() for x in episodes]
    how = LOSSES[spec["loss"]], spec["steps"], spec["rate"], episodes
    return net, {name: make(net, *how) for name, make in PEERS[peer].items()}


def fastest(ways):
    """Its name: the one that takes least time, at its second call where that costs little."""
    times = {}
    for name, gradient in ways.items() if len(ways) > 1 else ():
        for _ in range(2):
            start = time.process_time()
            gradient()
            times[name] = time.process_time() - start
            if times[name] > 2:
                break
    return min(times, key=times.get, default=next(iter(ways)))


def main(path, peer, threads, clock):
    torch.set_num_threads(threads)
    now = {"wall": time.perf_counter, "cpu": time.process_time}[clock]
    try:
        net, ways = prepared(path, peer, torch.float32)
    except ImportError as error:
        print(json.dumps(dict(error=str(error))), flush=True)
        return
    way = fastest(ways)
    exact, its_ways = prepared(path, peer, torch.float64)
    value, grads = its_ways[way]()
    names = [name for name, _ in exact.named_parameters()]
    np.savez(f"{path}.{peer}.npz", **{k: g.numpy() for k, g in zip(names, grads, strict=True)})
    print(json.dumps(dict(loss=value.item(), way=way)), flush=True)
    gradient = ways[way]
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-5, fused=True)

    def step():
        _, grads = gradient()
        for p, g in zip(net.parameters(), grads, strict=True):
            p.grad = g
        optimizer.step()

    step()
    for line in sys.stdin:
        start = now()
        for _ in range(int(line)):
            step()
        print(json.dumps(dict(seconds=now() - start)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
