"""Actor and critic of an environment of vectors: which action, and what is to be expected."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from models.layers import Linear
from models.mlp import MLP


class Actor(nnx.Module):
    """observation [..., O] -> logits of the actions [..., A], value [...].

    hidden: widths of the relu layers; the value has its own, so that its errors do not move the
    policy. Both heads begin at zero: every action is equally likely, every value 0.
    """

    def __init__(
        self,
        *,
        observation_size: int,
        num_actions: int,
        hidden: tuple[int, ...] = (128, 128),
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        body = dict(inputs=observation_size, outputs=hidden[-1], hidden=hidden[:-1], dtype=dtype)
        self.actor, self.critic = MLP(**body, rngs=rngs), MLP(**body, rngs=rngs)
        self.action = Linear(hidden[-1], num_actions, dtype=dtype, rngs=rngs)
        self.value = Linear(hidden[-1], 1, dtype=dtype, rngs=rngs)
        for head in (self.action, self.value):
            head.kernel.set_value(jnp.zeros_like(head.kernel[...]))

    def __call__(self, observation: jax.Array) -> tuple[jax.Array, jax.Array]:
        """observation [..., O] -> (logits float32 [..., A], value float32 [...])."""
        logits = self.action(jax.nn.relu(self.actor(observation))).astype(jnp.float32)
        value = self.value(jax.nn.relu(self.critic(observation))).astype(jnp.float32)
        return logits, value[..., 0]
