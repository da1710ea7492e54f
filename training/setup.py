"""Before anything else: the compilation cache, many hosts, and a folder that can be written.

Called once by `train.py` and the other command lines; nothing here runs at import.
"""

from __future__ import annotations

import os
import pathlib
import tempfile

import jax
from rich.console import Console

from training.state import TrainState
from training.table import mib_per_device, parameter_table


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
        "state": f"{mib_per_device(state):.1f} MiB per device",
    }
    console = Console(soft_wrap=True, quiet=jax.process_index() > 0)
    console.rule("[bold]capax", align="left")
    for name, value in facts.items():
        console.print(f"[bold]{name:<11}[/] {value}", highlight=False)
    console.print(parameter_table(state))
    for line in lines:
        console.print(line, highlight=False)
    return facts
