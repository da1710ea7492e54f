"""Exact caption scores on the host, equal to coco-caption's: see metrics/score.py."""
