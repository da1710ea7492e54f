"""Reading compiled programs: what they send between chips, and whether a pod could run them.

XLA prints collectives nowhere else; here loop bodies count as often as they run.
"""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Iterator

HOST = re.compile(
    r"\b(infeed|outfeed)\(|is_host_transfer=true|custom_call_target=\"[^\"]*(callback|Host)[^\"]*\""
)
DYNAMIC = re.compile(r"\[[^\]]*<=\d+|\b[sg]et-dimension-size\(|\bdynamic-reshape\(")
COLLECTIVE = re.compile(
    r" = (?P<shape>.*?) (?P<kind>all-reduce|all-gather|reduce-scatter|all-to-all|"
    r"collective-permute)(?P<start>-start)?\("
)
ARRAY = re.compile(r"\b(pred|[a-z]+\d+)[a-z\d]*\[([\d,]*)\]")
HEADER = re.compile(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{\s*$")


def check_tpu_ready(text: str) -> None:
    """Raises ValueError naming the first line of compiled HLO that no pod could run at speed."""
    for line in text.splitlines():
        for pattern, what in ((HOST, "calls back to the host"), (DYNAMIC, "has a dynamic shape")):
            if pattern.search(line):
                name = re.search(r'op_name="([^"]*)"', line)
                raise ValueError(
                    f"the train step {what} in {name[1] if name else line.strip()[:120]}; "
                    "move that work to Task.prepare or to the data."
                )


def collectives(text: str) -> dict[str, tuple[int, int]]:
    """{kind: (times per step, bytes of the results on one chip)} of a compiled program."""
    found: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
    times = trip_counts(text)
    for computation, line in _lines(text):
        if match := COLLECTIVE.search(line):
            sizes = [_bytes(*array) for array in ARRAY.findall(match["shape"])]
            # An asynchronous start returns its operands beside its results.
            size = max(sizes) if match["start"] and len(sizes) > 1 else sum(sizes)
            n = times.get(computation, 1)
            found[match["kind"]][0] += n
            found[match["kind"]][1] += n * size
    return {kind: (n, size) for kind, (n, size) in sorted(found.items())}


def trip_counts(text: str) -> dict[str, int]:
    """{loop body: how often it runs in all}. A loop whose bound is not a constant counts once."""
    constants: dict[str, list[int]] = collections.defaultdict(list)
    for computation, line in _lines(text):
        constants[computation] += map(int, re.findall(r" = [su]32\[\]\S* constant\((\d+)\)", line))
    parent, own = {}, {}
    for computation, line in _lines(text):
        if " while(" in line and (body := re.search(r"body=%?([\w.\-]+)", line)):
            condition = re.search(r"condition=%?([\w.\-]+)", line)[1]
            known = re.search(r'"known_trip_count":\{"n":"(\d+)"', line)
            bound = int(known[1]) if known else max(constants[condition], default=1)
            parent[body[1]], own[body[1]] = computation, bound

    def total(name: str) -> int:
        return own[name] * total(parent[name]) if name in own else 1

    return {name: total(name) for name in own}


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """(computation, line) for every line of the program."""
    computation = ""
    for line in text.splitlines():
        if header := HEADER.match(line):
            computation = header[1]
        yield computation, line


def _bytes(kind: str, dims: str) -> int:
    bits = 8 if kind == "pred" else int(re.sub(r"\D", "", kind))
    return math.prod(int(d) for d in dims.split(",") if d) * bits // 8
