"""Counting the floating-point work of a traced program, loops included.

XLA's own cost analysis counts the body of a scan once; here a body counts as often as it runs.
Only matrix products and convolutions are counted: the work that peak flops are quoted for.
"""

from __future__ import annotations

import math
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr


def count_flops(jaxpr: Any) -> int:
    """2 x multiply-adds of all dots and convolutions in a (closed) jaxpr, over all devices.

    A `while` without a known trip count is counted once, a `cond` by its largest branch.
    """
    jaxpr = jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
    return sum(_equation(eqn) for eqn in jaxpr.eqns)


def _equation(eqn: Any) -> int:
    name, p = eqn.primitive.name, eqn.params
    if name == "dot_general":
        (contract, _), _ = p["dimension_numbers"]
        shape = eqn.invars[0].aval.shape
        return 2 * math.prod(eqn.outvars[0].aval.shape) * math.prod(shape[i] for i in contract)
    if name == "conv_general_dilated":
        # Every output sees a kernel's window over its group's input channels.
        kernel, numbers = eqn.invars[1].aval.shape, p["dimension_numbers"]
        window = math.prod(kernel) // kernel[numbers.rhs_spec[0]]
        return 2 * math.prod(eqn.outvars[0].aval.shape) * window // _dilation(p)
    if name == "cond":
        return max(count_flops(branch) for branch in p["branches"])
    inner = sum(count_flops(j) for j in _inner(p))
    if name == "scan":
        return p["length"] * inner
    if name == "shard_map":  # its body is written per device
        return math.prod(p["mesh"].shape[a] for a in p.get("manual_axes", ())) * inner
    return inner


def _dilation(p: dict[str, Any]) -> int:
    """A strided convolution's gradient is a convolution of a zero-filled input: not work."""
    return math.prod(p["lhs_dilation"])


def _inner(params: dict[str, Any]) -> list[Any]:
    """The programs inside an equation (jit, scan, while, remat, custom derivatives)."""
    found = []
    for value in params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(item, (Jaxpr, ClosedJaxpr)):
                found.append(item)
    return found
