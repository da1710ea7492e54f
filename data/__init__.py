"""Records in, NumPy batches out: every batch is a pure function of (config, seed, step).

One file per source (flickr8k, json_lines, tfds_captions, shapes), each with a function `read`.
Nothing here imports jax: reading data must never touch an accelerator.
"""

from data.source import Example, Source

__all__ = ["Example", "Source"]
