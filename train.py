"""Flags → build(config) → for step, state, metrics in fit(...). Notebooks use the same build and fit.

    python train.py --config=configs/captioning_shapes.py --workdir=runs/shapes
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from typing import Any

import jax
from absl import app, flags
from ml_collections import config_flags

from training import checkpoint, loop, setup, sharding, writers
from training.build import construct
from training.optimizer import make_optimizer
from training.step import make_train_step


@dataclasses.dataclass
class Build:
    """Everything an experiment is made of, ready for `fit`."""

    config: Any
    data: Any
    task: Any
    tx: Any
    schedule: Any
    mesh: Any
    rules: tuple
    train_step: Any
    pretrained: dict
