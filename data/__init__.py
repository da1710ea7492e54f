"""Records in, NumPy batches out: every batch is a pure function of (config, seed, step).

One file per source, each with a function `read`: flickr8k, karpathy, coco_json, tfds_captions,
csv_captions, json_lines, shapes. precomputed.py and feature_records.py read features that were
made elsewhere.
Nothing here imports jax: reading data must never touch an accelerator.
"""

from data.source import Example, Source

__all__ = ["Example", "Source"]
