"""Samples to train on that stand in dev or test: found in the store, taken out of use, and listed with their twins."""

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from wizloop.loop.leakage import Leak, Text, all_overlaps
from wizloop.loop.pages import PAGE
from wizloop.store import samples
from wizloop.store.db import Connection, Store

NEAR = 0.8
"""Jaccard of word 3-shingles from which a prompt repeats one of dev or test."""
LEARNED, MEASURED = ("pool", "seed"), ("dev", "test")
PIECE = 250
"""Samples that are taken out of use in one transaction."""

HELD_OUT = "the held-out sample"
_REASON = re.compile(rf"(repeats|nearly repeats \((\d\.\d\d)\)) {HELD_OUT} (\d+)")


@dataclass(frozen=True)
class Listed:
    """A sample that was taken out of use, and the sample of dev or test that it repeats."""

    sample: samples.Sample
    held_out: samples.Sample
    similarity: float
    """1 for the same text, case, punctuation and spacing aside."""

    def to_json(self) -> dict[str, Any]:
        """As `wizloop leaks --json` prints it."""
        kind = "exact" if self.similarity == 1 else "near"
        held_out = {"sample": self.held_out.id, "split": self.held_out.split, "row": self.held_out.row_ref}
        told = {"sample": self.sample.id, "split": self.sample.split, "row": self.sample.row_ref}
        return {**told, "prompt": self.sample.prompt, "kind": kind, "similarity": self.similarity, "held_out": held_out}


def find(store: Store, *, after: int = 0) -> dict[int, str]:
    """Usable samples of pool and seed whose prompt stands, or nearly stands, in dev or test: id to reason.

    With `after`, only pairs of which one sample has a higher id than that: what an import can have added.
    """
    found = all_overlaps(lambda: _texts(store, LEARNED, after), _texts(store, MEASURED), NEAR)
    if after:
        old = all_overlaps(lambda: _until(after, _texts(store, LEARNED)), _texts(store, MEASURED, after), NEAR)
        found = {**old, **found}
    reasons = {_id(one): _reason(leak) for one, leak in found.items()}
    with store.read() as db:
        # The other normalising, which knows the marks of Indic scripts and compares responses too.
        same = samples.leaked(db, LEARNED, MEASURED)
    return {**{one: _same(held) for one, held in same}, **reasons}


def among(store: Store, learned: Sequence[samples.Sample]) -> set[int]:
    """Those of the samples to train on whose prompt stands, or nearly stands, in dev or test."""
    texts = [(one.id, one.prompt) for one in learned]
    near = {_id(one) for one in all_overlaps(lambda: texts, _texts(store, MEASURED), NEAR)}
    with store.read() as db:
        return near | {one for one, _ in samples.leaked(db, LEARNED, MEASURED)}


def exclude(store: Store, reasons: dict[int, str], between: Callable[[], None] = lambda: None) -> int:
    """Take samples out of use for these reasons, in short transactions; how many were in use."""
    total, ids = 0, sorted(reasons)
    for start in range(0, len(ids), PIECE):
        with store.write() as db:
            total += samples.exclude_each(db, {one: reasons[one] for one in ids[start : start + PIECE]})
        between()
    return total


def number(db: Connection) -> int:
    """How many samples are out of use because dev or test holds them."""
    return samples.excluded_for(db, HELD_OUT)


def listed(db: Connection) -> Iterator[Listed]:
    """Every sample that is out of use because dev or test holds it, in id order."""
    after = 0
    while page := samples.excluded(db, after, PAGE):
        after = page[-1].id
        known = [(one, match) for one in page if (match := _REASON.fullmatch(one.excluded or ""))]
        held = {one.id: one for one in samples.get(db, [int(match[3]) for _, match in known])}
        for one, match in known:
            if (twin := held.get(int(match[3]))) is not None:
                yield Listed(one, twin, float(match[2] or 1))


def _texts(store: Store, splits: Iterable[str], after: int = 0) -> Iterator[Text]:
    """Ids and prompts of the usable samples of some splits, a page at a time."""
    for split in splits:
        last = after
        while True:
            with store.read() as db:
                page = samples.prompts(db, split, last, PAGE)
            yield from page
            if len(page) < PAGE:
                break
            last = page[-1][0]


def _until(last: int, texts: Iterable[Text]) -> Iterator[Text]:
    return (text for text in texts if _id(text[0]) <= last)


def _reason(leak: Leak) -> str:
    held = _id(leak.measure_id)
    # Two digits, and never 1.00 for what is not the same.
    return (
        _same(held) if leak.kind == "exact" else f"nearly repeats ({min(leak.similarity, 0.99):.2f}) {HELD_OUT} {held}"
    )


def _same(held: int) -> str:
    return f"repeats {HELD_OUT} {held}"


def _id(value: Hashable) -> int:
    return int(str(value))
