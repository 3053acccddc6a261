"""Read the usable samples of a split and their known labels."""

from collections.abc import Iterator

from wizloop.loop.words import Declaration, Task
from wizloop.store import samples
from wizloop.store.db import Store

PAGE = 1000
"""Rows per read transaction: a long one would keep SQLite's log from being truncated."""


def usable(store: Store, split: str) -> Iterator[samples.Sample]:
    """Yield every usable sample of a split, in id order."""
    for page in pages(store, split):
        yield from page


def pages(store: Store, split: str) -> Iterator[list[samples.Sample]]:
    """Yield the usable samples of a split, in id order, a page at a time."""
    after = 0
    while page := _page(store, split, after):
        yield page
        after = page[-1].id


def _page(store: Store, split: str, after: int) -> list[samples.Sample]:
    with store.read() as db:
        return samples.page(db, split, after, PAGE)


def labels_of(sample: samples.Sample, declared: Declaration) -> dict[Task, str]:
    """Return the known labels of the tasks that apply to a sample."""
    known = {task: getattr(sample, samples.LABELS[task]) for task in declared.tasks_of(sample)}
    return {task: label for task, label in known.items() if label is not None}
