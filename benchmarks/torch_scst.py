"""The peer of benchmarks/rl_step.py: self-critical training of the same captioner in plain PyTorch.

Runs under an interpreter that has torch and pycocoevalcap (nothing here imports jax): reads
weights, a batch and document frequencies, writes what it makes of given captions, then answers one
JSON line for each line it is sent, "two_pass 3" or "one_pass 3" (how, steps).
"""

import json
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from coco_cider import scorer
from torch import nn
from torch_captioner import AttentionLSTM

PAD, BOS, EOS = 0, 1, 2
UNSAID = [0, 1, 3]


class Trainer:
    """two_pass samples without a graph and reads the samples again; one_pass keeps the graph."""

    def __init__(self, model, data, settings):
        self.model, self.settings = model, settings
        self.grid, self.known = torch.tensor(data["features"]).float(), data["references"]
        self.score = scorer(settings["counts"], settings["images"])
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=settings["lr"], weight_decay=0.01)

    def sample(self, captions, greedy=False):
        """→ tokens [B, N, T], log-probabilities [B, N, T]."""
        model, longest = self.model, self.settings["length"]
        memory, carry = model.start(self.grid, captions)
        token = torch.full((len(self.grid), captions), BOS)
        done = torch.zeros_like(token, dtype=torch.bool)
        tokens, said = [], []
        for _ in range(longest):
            words = F.embedding(token, model.p["embed_embedding"])
            carry, z = model.cell(memory, carry, model.linear("inputs", words))
            logprob = self.log_policy(model.logits(words, carry[1], z))
            if greedy:
                token = logprob.argmax(-1)
            else:
                p = logprob.detach().exp().flatten(0, 1)
                token = torch.multinomial(p, 1).view(done.shape)
            said.append(logprob.gather(-1, token[..., None])[..., 0])
            token = token.masked_fill(done, PAD)
            tokens.append(token)
            done = done | (token == EOS)
            if done.all():
                break
        return torch.stack(tokens, 2), torch.stack(said, 2)

    @staticmethod
    def log_policy(logits):
        logits[..., UNSAID] = -torch.inf
        return logits.log_softmax(-1)

    def read(self, tokens):
        """tokens [B, N, T] → their log-probabilities, teacher-forced."""
        fed = F.pad(tokens, (1, 0), value=BOS)[..., :-1]
        logprob = self.log_policy(self.model(self.grid, fed))
        target = tokens.masked_fill(tokens == PAD, EOS)
        return logprob.gather(-1, target[..., None])[..., 0]

    def rewards(self, tokens):
        """tokens [B, N, T] → CIDEr-D [B, N] by the scorer on the host."""
        strings = lambda rows: [" ".join(str(i) for i in row if i != PAD) for row in rows]  # noqa: E731
        texts = strings(tokens.flatten(0, 1).tolist())
        told = [strings(rows) for rows in self.known.tolist() for _ in range(tokens.shape[1])]
        return torch.tensor(self.score(texts, told)).float().view(tokens.shape[:2])

    def advantage(self, tokens, greedy):
        reward = self.rewards(tokens)
        if self.settings["baseline"] == "greedy":
            return reward - self.rewards(greedy)
        n = reward.shape[1]
        return (reward - reward.mean(1, keepdim=True)) * n / (n - 1)

    def loss(self, logprob, tokens, greedy):
        each = -self.advantage(tokens, greedy)[..., None] * logprob
        return (each * (tokens != PAD)).sum() / tokens[..., 0].numel()

    def greedy(self):
        if self.settings["baseline"] != "greedy":
            return None
        with torch.no_grad():
            return self.sample(1, greedy=True)[0]

    def step(self, how):
        self.optimizer.zero_grad(set_to_none=True)
        greedy = self.greedy()
        if how == "one_pass":
            tokens, logprob = self.sample(self.settings["samples"])
        else:
            with torch.no_grad():
                tokens, _ = self.sample(self.settings["samples"])
            logprob = self.read(tokens)
        self.loss(logprob, tokens, greedy).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()

    def of_given(self, tokens, greedy):
        """What ours must agree with: greedy captions, scores, log-probabilities and gradients."""
        logprob = self.read(tokens)
        self.loss(logprob, tokens, greedy).backward()
        grads = {k: p.grad.numpy() for k, p in self.model.p.items()}
        own = self.sample(1, greedy=True)[0]
        own = F.pad(own, (0, self.settings["length"] - own.shape[-1]))
        found = dict(score=self.rewards(tokens), logprob=logprob.detach(), greedy=own)
        return {k: v.numpy() for k, v in found.items()} | {f"grad/{k}": v for k, v in grads.items()}


def main(path):
    data = dict(np.load(path))
    settings = json.loads(str(data["settings"]))
    torch.set_num_threads(settings["threads"])
    part = "params/decoder/"
    weights = {k.removeprefix(part): v for k, v in data.items() if k.startswith(part)}
    trainer = Trainer(AttentionLSTM(weights, 0.0), data, settings)
    given = (torch.tensor(data[k]).long() for k in ("sampled", "greedy"))
    np.savez(settings["answer"], **trainer.of_given(*given))
    print(json.dumps(dict(torch=torch.__version__)), flush=True)
    for line in sys.stdin:
        how, steps = line.split()
        start = time.perf_counter(), time.process_time()
        for _ in range(int(steps)):
            trainer.step(how)
        wall, processor = time.perf_counter() - start[0], time.process_time() - start[1]
        print(json.dumps(dict(wall=wall, processor=processor)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
