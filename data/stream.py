"""Training batches without end, made ahead of use: what all data sets share.

Batch i depends on (seed, i) alone, so that a run goes on where it stopped, on any number of hosts.
"""

from collections.abc import Callable, Iterator
from typing import Any

ENDLESS = 2**40
Batch = dict[str, Any]


class Stream:
    """A data set that is trained on. A subclass gives `batch_size` and `step`.

    _threads, _prefetch: how many batches are made at once, and how many wait ready; without threads
    each is made when it is asked for.
    """

    batch_size: int
    _threads = _prefetch = 0

    def step(self, split: str, seed: int) -> Callable[[int, slice], Batch]:
        """(i, block) -> the rows in `block` of the global batch i."""
        raise TypeError(f"{type(self).__name__} does not define step")

    def batches(
        self,
        split: str = "train",
        *,
        start: int = 0,
        seed: int,
        process: int = 0,
        processes: int = 1,
    ) -> Iterator[Batch]:
        """Endless training batches from step `start`; this host's block of each global batch.

        Raises: ValueError for a split that cannot be trained on, or a batch size that `processes`
        does not divide; from the iterator, naming file and line, for a bad image.
        """
        make, block = self.step(split, seed), host_block(self.batch_size, process, processes)
        return stream(lambda i: make(i, block), start, ENDLESS, self._threads, self._prefetch)


def host_block(rows: int, process: int, processes: int) -> slice:
    """This host's contiguous block of a global batch, so that any host count gives one array.

    Raises: ValueError naming data.batch_size when the rows cannot be shared out evenly.
    """
    if rows % processes:
        raise ValueError(
            f"data.batch_size={rows} is not divisible by {processes} processes; use a multiple, "
            f"for instance {-(-rows // processes) * processes}"
        )
    if not 0 <= process < processes:
        raise ValueError(f"process {process} does not exist among {processes} processes")
    share = rows // processes
    return slice(process * share, (process + 1) * share)


def stream(
    make: Callable[[int], Batch], start: int, stop: int, threads: int, prefetch: int
) -> Iterator[Batch]:
    """make(start), make(start + 1), ... in order, made ahead of use by Grain's threads."""
    if not threads:
        return map(make, range(start, stop))
    # Grain loads jax's tree functions when it finds them; imported here, data modules stay free.
    import grain

    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
    return iter(grain.MapDataset.range(start, stop).map(make).to_iter_dataset(options))
