"""The loader: a task's batches through torch's DataLoader, the same bits in the same order as made in process."""

from collections.abc import Callable, Iterator, Mapping
from multiprocessing import get_context
from typing import Any

import torch
from torch.utils._pytree import tree_map
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

EPOCH = 64  # batches, about as many as the digits have; texts, drawn at random, have no end
Batch = Callable[[int], Any]


class Loader:
    """Index of a batch -> that batch on the device, made by other processes ahead of time.

    They are forked, since what makes a batch cannot be pickled, and end with this process's group. They are started
    anew for each epoch, unless they are persistent, and wherever an index does not follow the one before.
    """

    def __init__(self, batch: Batch, variant: Mapping[str, Any], device: torch.device) -> None:
        """Load what `batch` makes on the CPU as the variant says."""
        self.batch = batch
        self.variant = variant
        self.device = device
        self.stop()

    def __call__(self, index: int) -> Any:
        """Wait for batch `index` and move it to the device."""
        if index != self.next:
            self.batches = stream(self.batch, self.variant, index)
        self.next = index + 1
        return tree_map(self.moved, next(self.batches))

    def stop(self) -> None:
        """End the workers; the next batch starts others."""
        self.next = -1
        self.batches: Iterator[Any] = iter(())

    def moved(self, item: Any) -> Any:
        """Return a tensor on the device; from pinned memory it is copied beside the kernels."""
        return item.to(self.device, non_blocking=self.variant["pinned"]) if isinstance(item, torch.Tensor) else item


def stream(batch: Batch, variant: Mapping[str, Any], start: int) -> Iterator[Any]:
    """Yield the batches from `start` on, epoch after epoch.

    Nothing that it holds leads back to it: where it is dropped, its processes end at once. If that were left to the
    garbage collector, which closes their pipes first, torch would wait five seconds for each.
    """
    first = get_context("fork").Value("q", start)  # shared: persistent workers read it at each epoch's start
    loader = data_loader(batch, variant, first)
    while True:
        yield from loader
        first.value += EPOCH


def data_loader(batch: Batch, variant: Mapping[str, Any], first: Any) -> Any:
    """Return torch's DataLoader of one epoch that begins with batch `first`."""
    is_map, workers = variant["loader"] == "map", variant["workers"]
    ahead = {"prefetch_factor": variant["prefetch"], "persistent_workers": variant["persistent"]}
    return DataLoader(
        Indexed(batch) if is_map else Streamed(batch, first),
        batch_size=None,  # each item is a whole batch
        sampler=Indices(first) if is_map else None,
        collate_fn=lambda batch: batch,
        num_workers=workers,
        pin_memory=variant["pinned"],
        generator=torch.Generator(),  # its own, or each epoch would draw from the model's
        **({"multiprocessing_context": get_context("fork"), **ahead} if workers else {}),
    )


class Indices:
    """The indices of an epoch, in order."""

    def __init__(self, first: Any) -> None:
        self.first = first

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first.value, self.first.value + EPOCH))


class Indexed(Dataset):
    """Map-style: the main process says which batch each worker makes."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __getitem__(self, index: int) -> Any:
        return self.batch(index)


class Streamed(IterableDataset):
    """Iterable: each worker knows its own batches, every nth of an epoch, so that they come back in order."""

    def __init__(self, batch: Batch, first: Any) -> None:
        self.batch = batch
        self.first = first

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        own, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        first = self.first.value
        return map(self.batch, range(first + own, first + EPOCH, workers))
