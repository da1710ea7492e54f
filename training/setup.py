"""Before anything else: the compilation cache, many hosts, and a folder that can be written.

Called once by `train.py` and the other command lines; nothing here runs at import.
"""

from __future__ import annotations

import os
import pathlib
import tempfile

import jax
from rich.console import Console
from rich.table import Table

from training.state import TrainState, flatten

MIB = 2**20


def cache_folder() -> pathlib.Path:
    """$XDG_CACHE_HOME/capax, by default ~/.cache/capax."""
    root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(root) / "capax"


def compilation_cache() -> None:
    """Keeps compiled programs between runs; JAX_COMPILATION_CACHE_DIR names another place."""
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def setup(workdir: str | os.PathLike, *, distributed: bool = False) -> pathlib.Path:
    """Returns the workdir, made and writable. Raises ValueError naming --workdir where it is not.

    distributed: many hosts; on a TPU pod or Slurm jax finds the others by itself.
    """
    if distributed:
        jax.distributed.initialize()
    compilation_cache()
    path = pathlib.Path(workdir).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path) as probe:
            probe.write(b"capax")
            probe.flush()
    except OSError as error:
        raise ValueError(
            f"--workdir={workdir} cannot be written ({error.strerror}); choose another folder."
        ) from None
    return path


def start_block(state: TrainState, mesh: jax.sharding.Mesh, lines: list[str]) -> dict[str, str]:
    """Prints what is about to run; returns it as facts for the report."""
    devices = mesh.devices.ravel()
    kept = {"trained": state.params, "frozen": state.frozen, "optimizer": state.opt_state}
    counts = {k: sum(x.size for x in jax.tree.leaves(v)) for k, v in kept.items()}
    facts = {
        "devices": f"{len(devices)} × {devices[0].device_kind}, jax {jax.__version__}",
        "mesh": ", ".join(f"{k}={v}" for k, v in mesh.shape.items()),
        "parameters": f"{counts['trained']:,} trained, {counts['frozen']:,} frozen",
        "state": f"{_mib(state):.1f} MiB per device",
    }
    console = Console(soft_wrap=True)
    console.rule("[bold]capax", align="left")
    for name, value in facts.items():
        console.print(f"[bold]{name:<11}[/] {value}", highlight=False)
    console.print(_table(state))
    for line in lines:
        console.print(line, highlight=False)
    return facts


def _mib(tree: object) -> float:
    """MiB on one device."""
    leaves = jax.tree.leaves(tree)
    size = lambda x: x.dtype.itemsize * _product(x.sharding.shard_shape(x.shape))  # noqa: E731
    return sum(size(x) for x in leaves) / MIB


def _product(shape: tuple[int, ...]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total


def _table(state: TrainState) -> Table:
    """Trained and frozen parameters by module, two levels deep."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name, justify in (("module", "left"), ("tensors", "right"), ("parameters", "right"),
                          ("MiB/device", "right"), ("sharded over", "left")):  # fmt: skip
        table.add_column(name, justify=justify)
    for mark, tree in (("", state.params), (" (frozen)", state.frozen)):
        groups: dict[str, list] = {}
        for path, leaf in flatten(tree).items():
            groups.setdefault("/".join(path.split("/")[:2]), []).append(leaf)
        for module, leaves in groups.items():
            axes = {str(a) for x in leaves for a in x.sharding.spec if a is not None}
            table.add_row(
                module + mark, str(len(leaves)), f"{sum(x.size for x in leaves):,}",
                f"{_mib(leaves):.2f}", ", ".join(sorted(axes)) or "–",
            )  # fmt: skip
    return table
