"""Reads whole splits from the store, a page at a time, so that no read holds the log up."""

from collections.abc import Iterator

from wizloop.store import samples
from wizloop.store.db import Store

PAGE = 1000


def usable(store: Store, split: str) -> Iterator[samples.Sample]:
    """Every usable sample of a split, in id order."""
    after = 0
    while True:
        with store.read() as db:
            page = samples.page(db, split, after, PAGE)
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1].id
