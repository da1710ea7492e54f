"""The parameter table of the start-up block: which array lives where, and what it costs per device.

Small models are shown array by array; large ones by module, two levels deep.
"""

from __future__ import annotations

import math
from typing import Any

import jax
from rich.table import Table

from training.state import TrainState, flatten

MIB = 2**20
ROWS = 40  # more than this many arrays are folded into modules


def mib_per_device(tree: Any) -> float:
    """MiB that the arrays (or their abstract shapes) take on one device."""
    size = lambda x: x.dtype.itemsize * math.prod(x.sharding.shard_shape(x.shape))  # noqa: E731
    return sum(size(x) for x in jax.tree.leaves(tree)) / MIB


def parameter_table(state: TrainState, rows: int = ROWS) -> Table:
    """path, shape, dtype, spec and MiB per device of each parameter, with a total.

    state: real or abstract. Frozen parameters are marked; optimizer and EMA are lines of the total.
    """
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("parameter", "shape", "dtype", "sharded as"):
        table.add_column(name)
    table.add_column("MiB/device", justify="right")
    trained, frozen = flatten(state.params), flatten(state.frozen)
    for mark, leaves in (("", trained), (" (frozen)", frozen)):
        if len(trained) + len(frozen) <= rows:
            groups = {path: [leaf] for path, leaf in leaves.items()}
        else:
            groups = {}
            for path, leaf in leaves.items():
                groups.setdefault("/".join(path.split("/")[:2]), []).append(leaf)
        for path, group in groups.items():
            table.add_row(path + mark, *_cells(group))
    rest = {"optimizer": state.opt_state, "averaged": state.ema, "statistics": state.stats}
    for name, tree in rest.items():
        if found := jax.tree.leaves(tree):
            table.add_row(f"[dim]{name}", *_cells(found, fold=True))
    table.add_row("[bold]total", *_cells(jax.tree.leaves(state), fold=True))
    return table


def _cells(leaves: list, fold: bool = False) -> tuple[str, str, str, str]:
    """shape, dtype, spec and MiB of one array, or the sums of several."""
    specs = sorted({_spec(x) for x in leaves} - {"–"}) or ["–"]
    dtypes = sorted({str(x.dtype) for x in leaves})
    if len(leaves) == 1 and not fold:
        shape = " × ".join(map(str, leaves[0].shape)) or "scalar"
    else:
        shape = f"{len(leaves)} arrays, {sum(math.prod(x.shape) for x in leaves):,}"
    return shape, ", ".join(dtypes), "; ".join(specs), f"{mib_per_device(leaves):.2f}"


def _spec(leaf: Any) -> str:
    """`-, fsdp` for a matrix split by columns; – for one that every device holds whole."""
    axes = [a if isinstance(a, str) else "+".join(a or ()) or "-" for a in leaf.sharding.spec]
    return ", ".join(axes) if any(a != "-" for a in axes) else "–"
