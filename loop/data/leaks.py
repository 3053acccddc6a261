"""Samples to train on that stand in dev or test: found in the store, taken out of use, and listed with their twins."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any

from wizloop.loop.data.leakage import Text, all_overlaps
from wizloop.loop.pages import PAGE
from wizloop.store import leaks, samples
from wizloop.store.db import Connection, Store

NEAR = 0.8
"""Jaccard of word 3-shingles from which a prompt repeats one of dev or test."""
LEARNED, MEASURED = ("pool", "seed"), ("dev", "test")
PIECE = 100
"""Samples that are taken out of use in one transaction."""


@dataclass(frozen=True)
class Found:
    """A sample to train on, the sample of dev or test that it comes nearest to, and how near."""

    sample_id: int
    held_id: int
    similarity: float
    """1 for the same text, case, punctuation and spacing aside."""


@dataclass(frozen=True)
class Listed:
    """A row that is kept out of training, and the sample of dev or test that holds its text."""

    leak: leaks.Leak
    held_out: samples.Sample
    prompt: str

    def to_json(self) -> dict[str, Any]:
        """As `wizloop leaks --json` prints it."""
        leak, held = self.leak, self.held_out
        return {
            "split": leak.split,
            "source": leak.source,
            "row": leak.row_ref,
            "sample": leak.sample_id,
            "prompt": self.prompt,
            "kind": "exact" if leak.similarity == 1 else "near",
            "similarity": round(leak.similarity, 4),
            "held_out": {"sample": held.id, "split": held.split, "row": held.row_ref},
        }


def sweep(store: Store, now: datetime, progress: Callable[[int], None] = lambda _: None) -> int:
    """Take out of use what leaks because of the samples that came since the last sweep; how many were in use.

    One that is cut short is made up for by the next, which begins where the last that came to its end did.
    """
    with store.read() as db:
        after, last = leaks.searched(db), samples.newest(db)
    if last <= after:
        return 0
    total = exclude(store, find(store, after=after, progress=progress), now)
    with store.write() as db:
        # Unless a sample was moved meanwhile, which is to be looked at again.
        if leaks.searched(db) == after:
            leaks.set_searched(db, last)
    return total


def find(store: Store, *, after: int = 0, progress: Callable[[int], None] = lambda _: None) -> list[Found]:
    """Usable samples of pool and seed whose prompt stands, or nearly stands, in dev or test.

    With `after`, only pairs of which one sample has a higher id than that: what is new since then. `progress` is told
    how many texts were looked at; each is looked at once for every few thousand of dev and test.
    """
    seen = count(1)

    def watched(texts: Iterable[Text]) -> Iterator[Text]:
        for text in texts:
            progress(next(seen))
            yield text

    near = {}
    # To make dev and test ready for comparing takes far longer than to read them.
    if any(True for _ in _texts(store, LEARNED, after)):
        near = all_overlaps(lambda: watched(_texts(store, LEARNED, after)), _texts(store, MEASURED), NEAR)
    if after:
        old = all_overlaps(lambda: watched(_until(after, _texts(store, LEARNED))), _texts(store, MEASURED, after), NEAR)
        near = {**old, **near}
    found = [Found(_id(leak.train_id), _id(leak.measure_id), leak.similarity) for leak in near.values()]
    return sorted(found, key=lambda one: one.sample_id)


def among(store: Store, learned: Sequence[samples.Sample]) -> set[int]:
    """Those of the samples to train on whose prompt stands, or nearly stands, in dev or test."""
    texts = [(one.id, one.prompt) for one in learned]
    return {_id(one) for one in all_overlaps(lambda: texts, _texts(store, MEASURED), NEAR)}


def exclude(store: Store, found: Sequence[Found], now: datetime) -> int:
    """Take samples out of use and write down why, in short transactions; how many were in use."""
    total = 0
    for start in range(0, len(found), PIECE):
        piece = {one.sample_id: one for one in found[start : start + PIECE]}
        with store.write() as db:
            known = samples.get(db, list(piece))
            leaks.note(db, (_leak(one, piece[one.id].held_id, piece[one.id].similarity) for one in known), now)
            total += samples.exclude_each(db, {number: _reason(one) for number, one in piece.items()})
    return total


def settle(db: Connection, rows: Sequence[tuple[samples.Kept, int, str]], now: datetime) -> set[int]:
    """Of rows whose text is there in another split: what measures has it. The ids of the samples that were moved.

    A row to train on is not added and is written down as a leak; a row that measures takes the sample over from the
    split that trains, unless a guard has read the workspace's samples already.
    """
    begun = leaks.begun(db)
    noted: list[leaks.Leak] = []
    taken: dict[int, samples.Kept] = {}
    for row, there, split in rows:
        if row[0] in LEARNED and split in MEASURED:
            noted.append(leaks.Leak(row[0], row[3], row[4], None, there, 1.0))
        elif row[0] in MEASURED and split in LEARNED and not begun:
            taken.setdefault(there, row)
    noted += [leaks.Leak(one.split, one.source, one.row_ref, None, one.id, 1.0) for one in samples.get(db, [*taken])]
    samples.move(db, taken)
    if taken:
        # What is measured from here on may stand nearly in a sample to train on that was there before it.
        leaks.set_searched(db, min(leaks.searched(db), min(taken) - 1))
    leaks.note(db, noted, now)
    return set(taken)


def listed(db: Connection) -> Iterator[Listed]:
    """Every row that is kept out of training because dev or test holds it, in the order in which they were found."""
    after = 0
    while page := leaks.listed(db, after, PAGE):
        after = page[-1][0]
        wanted = {one for _, leak in page for one in (leak.held_id, leak.sample_id) if one is not None}
        known = {one.id: one for one in samples.get(db, sorted(wanted))}
        for _, leak in page:
            held = known[leak.held_id]
            yield Listed(leak, held, held.prompt if leak.sample_id is None else known[leak.sample_id].prompt)


def _leak(one: samples.Sample, held_id: int, similarity: float) -> leaks.Leak:
    return leaks.Leak(one.split, one.source, one.row_ref, one.id, held_id, similarity)


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


def _reason(found: Found) -> str:
    how = "repeats" if found.similarity == 1 else f"nearly repeats ({found.similarity:.2f})"
    return f"{how} the held-out sample {found.held_id}"


def _id(value: Hashable) -> int:
    return int(str(value))
