"""Checksums over the numbers of a checkpoint, so that a flipped bit on disk is never trained on.

Made and checked on the devices, one pass over the state; the same value on any mesh.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


@jax.jit
def _checksums(items: dict[str, Any]) -> dict[str, jax.Array]:
    """Per part, the wrapping uint32 sum of each leaf's bits: the same on any mesh."""

    def digest(x: jax.Array) -> jax.Array:
        if x.dtype == jnp.bool_:
            x = x.astype(jnp.uint8)
        bits = jax.lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * x.dtype.itemsize}"))
        return jnp.sum(bits.astype(jnp.uint32), dtype=jnp.uint32)

    return {k: jnp.stack([digest(x) for x in jax.tree.leaves(v)]) for k, v in items.items()}


def with_checksums(items: dict[str, Any]) -> dict[str, Any]:
    """{part: tree} -> {part: tree with one more entry, "checksum"}."""
    return {k: {**items[k], "checksum": v} for k, v in _checksums(items).items()}


def place(wanted: dict[str, Any], items: dict[str, Any]) -> dict[str, Any]:
    """Abstract items with the state's shardings; the checksums are replicated over its mesh."""
    mesh = items["model"]["step"].sharding.mesh
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return {
        k: {**items[k], "checksum": jax.ShapeDtypeStruct(c.shape, c.dtype, sharding=everywhere)}
        for k, c in ((k, v["checksum"]) for k, v in wanted.items())
    }


def verify(found: dict[str, Any]) -> None:
    """Takes the checksums out of restored parts. Raises ValueError where they do not agree."""
    saved = {k: v.pop("checksum") for k, v in found.items()}
    for name, now in _checksums(found).items():
        if (jax.device_get(now) != jax.device_get(saved[name])).any():
            raise ValueError(f"its {name} does not agree with the checksums saved beside it")
