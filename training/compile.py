"""Compiles the real train step for TPUs one does not hold, and says what it would cost.

    python -m training.compile --config=configs/captioning_flickr8k.py --topology=v5e:2x4

Prints parameters, bytes per chip, flops, collectives and the roofline bound, and fails where the
step would call back to the host or has dynamic shapes. Needs the extra: pip install -e '.[tpu]'.
"""

from __future__ import annotations

import dataclasses
import math
import os
import sys
from typing import Any

import jax
import numpy as np
from absl import app, flags
from ml_collections import config_flags
from rich.console import Console
from rich.table import Table

from training.flops import count_flops
from training.hlo import check_tpu_ready, collectives
from training.shapes import shapes_of
from training.sharding import batch_sharding, make_mesh
from training.state import flatten

MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Chip:
    """Published peaks: dense bf16 flop/s, memory in bytes, its bandwidth in bytes/s."""

    flops: float
    memory: float
    bandwidth: float


CHIPS = {
    "v4": Chip(275e12, 32e9, 1.2e12),
    "v5e": Chip(197e12, 16e9, 0.82e12),
    "v5p": Chip(459e12, 95e9, 2.77e12),
    "v6e": Chip(918e12, 32e9, 1.64e12),
}


@dataclasses.dataclass(frozen=True)
class Report:
    """What one step costs, per chip where not said otherwise."""

    devices: int
    inputs: dict[str, str]  # what the step reads: raw images or features that were kept
    trained: int
    frozen: int
    arguments: int
    outputs: int
    temporaries: int
    aliased: int
    flops: int  # of the model, over all chips, loops counted as often as they run
    collectives: dict[str, tuple[int, int]]  # kind -> (how often per step, bytes moved)

    @property
    def memory(self) -> int:
        """Bytes that a chip must have: donated arguments are counted once."""
        return self.arguments + self.outputs + self.temporaries - self.aliased

    def seconds(self, chip: Chip) -> dict[str, float]:
        """Lower bounds on one step's time: no chip computes or reads faster than its datasheet."""
        touched = self.arguments + self.outputs + 2 * self.temporaries
        return {
            "compute": self.flops / self.devices / chip.flops,
            "memory": touched / chip.bandwidth,
        }


def compile_step(train_step: Any, state: Any, batch: Any, mesh: jax.sharding.Mesh) -> Report:
    """Lowers and compiles for the mesh's devices. state, batch: abstract arrays with shardings.

    Raises ValueError where the step talks to the host or has a dynamic shape.
    """
    traced = train_step.trace(state, batch)
    compiled = traced.lower().compile()
    text = compiled.as_text()
    check_tpu_ready(text)
    memory = compiled.memory_analysis()
    count = lambda tree: sum(math.prod(x.shape) for x in jax.tree.leaves(tree))  # noqa: E731
    return Report(
        devices=mesh.size,
        inputs={path: f"{x.dtype} {list(x.shape)}" for path, x in flatten(batch).items()},
        trained=count(state.params),
        frozen=count(state.frozen),
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        aliased=memory.alias_size_in_bytes,
        flops=count_flops(traced.jaxpr),
        collectives=collectives(text),
    )


def show(report: Report, kind: str, console: Console | None = None) -> None:
    """Prints the report as a table."""
    table = Table(box=None, show_header=False, title=f"one train step on {report.devices} × {kind}")
    chip = CHIPS.get(kind)
    table.add_row("parameters", f"{report.trained:,} trained, {report.frozen:,} frozen")
    table.add_row("batch", ", ".join(f"{name} {shape}" for name, shape in report.inputs.items()))
    for name in ("arguments", "outputs", "temporaries"):  # XLA keeps what fits in on-chip memory
        table.add_row(f"{name} per chip", f"{getattr(report, name) / MIB:,.1f} MiB of HBM")
    fits = f" of {chip.memory / MIB:,.0f} MiB" if chip else ""
    table.add_row("memory per chip", f"{report.memory / MIB:,.1f} MiB{fits} (donated counted once)")
    table.add_row("model flops", f"{report.flops / 1e9:,.2f} GFLOP, all chips, loops unrolled")
    for name, (n, size) in report.collectives.items() or [("collectives", (0, 0))]:
        table.add_row(name, f"{n} per step, {size / MIB:,.2f} MiB")
    if chip:
        bounds = report.seconds(chip)
        worst = max(bounds, key=bounds.get)
        said = ", ".join(f"{name} {1e3 * value:.3f} ms" for name, value in bounds.items())
        table.add_row("roofline bound", f"{1e3 * bounds[worst]:.3f} ms ({said}); not a measurement")
    table.add_row("host callbacks, dynamic shapes", "none")
    (console or Console(width=100)).print(table)


def topology_devices(name: str) -> list[Any]:
    """Compile-only devices of a topology such as v5e:2x4. Raises ValueError without libtpu."""
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-8")
    from jax.experimental import topologies

    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=name).devices
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(
            f"--topology={name} cannot be described ({reason}); use e.g. v5e:2x4, install the "
            "extra with pip install -e '.[tpu]', and let one process at a time use it."
        ) from error


def abstract_batch(batch: Any, mesh: jax.sharding.Mesh) -> Any:
    """Shapes of a host batch, placed like `sharding.put_batch` would."""
    place = batch_sharding(mesh)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), batch)


def report_for(
    config: Any, devices: list[Any], *, vocab_size: int = 0, regions: int = 36
) -> Report:
    """Builds an experiment for devices one does not hold, and compiles its train step.

    regions: rows of each image's features where they were computed elsewhere (data.features).
    """
    import train  # the door: only it sees the whole config

    config = config.copy_and_resolve_references().unlock()
    config.evals = {}
    mesh = make_mesh(**config.mesh, devices=devices)
    data = shapes_of(config.data, vocab_size)
    made = train.build(config, data=data, mesh=mesh, weights=False)
    made.task.stand_in()
    state, batch = made.abstract(), data.batch()
    if made.config.data.get("cached_views", 0):  # the step reads features that were kept
        encode = made.task.predictors()["features"]
        grid = jax.eval_shape(encode, made.task.variables(state), batch.pop("image"))
        batch["features"] = np.zeros(grid.shape, np.float16)
    elif config.data.get("features"):
        rows = len(batch.pop("image"))
        batch["features"] = np.zeros((rows, regions, config.model.encoder.width), np.float16)
    return compile_step(made.train_step, state, abstract_batch(batch, mesh), mesh)


if __name__ == "__main__":
    CONFIG = config_flags.DEFINE_config_file("config", None, "configs/….py", lock_config=True)
    TOPOLOGY = flags.DEFINE_string("topology", "v5e:2x4", "chip and its grid")
    BATCH = flags.DEFINE_integer("batch_size", 0, "images per step, 0 = as in the config")
    REGIONS = flags.DEFINE_integer("regions", 36, "rows of an image's data.features")
    VOCAB = flags.DEFINE_integer("vocab_size", 0, "words, 0 = the limit in the config")
    flags.mark_flags_as_required(["config"])

    def main(_: list[str]) -> None:
        jax.config.update("jax_platforms", "cpu")
        try:
            config = CONFIG.value.copy_and_resolve_references().unlock()
            config.data.batch_size = BATCH.value or config.data.batch_size
            devices = topology_devices(TOPOLOGY.value)
            sizes = dict(vocab_size=VOCAB.value, regions=REGIONS.value)
            show(report_for(config, devices, **sizes), TOPOLOGY.value.split(":")[0])
        except ValueError as error:
            sys.exit(f"error: {error}")

    app.run(main)
