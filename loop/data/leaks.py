"""Find training samples whose text is also in dev or test, exclude them, and list them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from typing import Any

from wizloop.loop.data.similarity import Overlap, Text, all_overlaps
from wizloop.loop.stored_samples import PAGE
from wizloop.store import leaks, samples
from wizloop.store.db import Connection, Store

NEAR = 0.8
"""Jaccard of word 3-shingles from which a prompt is a near-duplicate of one in dev or test."""
LEARNED, MEASURED = ("pool", "seed"), ("dev", "test")
BATCH_ROWS = 100
"""Samples excluded in one transaction."""


@dataclass(frozen=True)
class ListedLeak:
    """A row that is kept out of training, and the sample of dev or test with its text."""

    leak: leaks.Leak
    held_out: samples.Sample
    prompt: str

    def to_json(self) -> dict[str, Any]:
        """Return the leak as `wizloop leaks --json` prints it."""
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
    """Exclude the leaks among the samples added since the last sweep; return how many were in use.

    The next sweep makes up for an interrupted one: it starts where the last complete one ended.
    """
    with store.read() as db:
        after, last = leaks.searched(db), samples.newest(db)
    if last <= after:
        return 0
    total = exclude(store, find(store, after=after, progress=progress), now)
    with store.write() as db:
        # Unless a sample was moved meanwhile, which must be searched again.
        if leaks.searched(db) == after:
            leaks.set_searched(db, last)
    return total


def find(store: Store, *, after: int = 0, progress: Callable[[int], None] = lambda _: None) -> list[Overlap]:
    """Return the usable samples of pool and seed whose prompt is in dev or test, exactly or nearly.

    With `after`, only pairs in which one sample has a higher id. `progress` gets the number of texts compared; each is
    compared once for every few thousand texts of dev and test.
    """
    seen = count(1)

    def watched(texts: Iterable[Text]) -> Iterator[Text]:
        for text in texts:
            progress(next(seen))
            yield text

    near = {}
    # Indexing dev and test takes far longer than reading them.
    if any(True for _ in _texts(store, LEARNED, after)):
        near = all_overlaps(lambda: watched(_texts(store, LEARNED, after)), _texts(store, MEASURED), NEAR)
    if after:
        old = all_overlaps(lambda: watched(_until(after, _texts(store, LEARNED))), _texts(store, MEASURED, after), NEAR)
        near = {**old, **near}
    return sorted(near.values(), key=lambda overlap: overlap.train_id)


def among(store: Store, learned: Sequence[samples.Sample]) -> set[int]:
    """Return the ids of the samples to train on whose prompt is in dev or test, exactly or nearly."""
    texts = [(sample.id, sample.prompt) for sample in learned]
    return set(all_overlaps(lambda: texts, _texts(store, MEASURED), NEAR))


def exclude(store: Store, overlaps: Sequence[Overlap], now: datetime) -> int:
    """Exclude samples and record why, in short transactions; return how many were in use."""
    total = 0
    for start in range(0, len(overlaps), BATCH_ROWS):
        batch = {one.train_id: one for one in overlaps[start : start + BATCH_ROWS]}
        with store.write() as db:
            known = samples.get(db, list(batch))
            leaks.note(db, (_leak(one, batch[one.id].measure_id, batch[one.id].similarity) for one in known), now)
            total += samples.exclude_each(db, {number: _reason(overlap) for number, overlap in batch.items()})
    return total


def settle(db: Connection, rows: Sequence[tuple[samples.Kept, int, str]], now: datetime) -> set[int]:
    """Settle rows whose text another split has already, by id and split: the split that measures gets the text.

    A row to train on is not added and is recorded as a leak; a row that measures takes the sample over from the split
    that trains, unless a guard has read the workspace's samples already. Returns the ids of the samples moved.
    """
    begun = leaks.begun(db)
    noted: list[leaks.Leak] = []
    taken: dict[int, samples.Kept] = {}
    for row, there, split in rows:
        if row[0] in LEARNED and split in MEASURED:
            noted.append(leaks.Leak(row[0], row[3], row[4], None, there, 1.0))
        elif row[0] in MEASURED and split in LEARNED and not begun:
            taken.setdefault(there, row)
    noted += [replace(_leak(one, one.id, 1.0), sample_id=None) for one in samples.get(db, [*taken])]
    samples.move(db, taken)
    if taken:
        # A text that now measures may nearly repeat an older sample to train on.
        leaks.set_searched(db, min(leaks.searched(db), min(taken) - 1))
    leaks.note(db, noted, now)
    return set(taken)


def listed(db: Connection) -> Iterator[ListedLeak]:
    """Yield every row that is kept out of training because of dev or test, in the order found."""
    after = 0
    while page := leaks.listed(db, after, PAGE):
        after = page[-1][0]
        wanted = {number for _, leak in page for number in (leak.held_id, leak.sample_id) if number is not None}
        known = {one.id: one for one in samples.get(db, sorted(wanted))}
        for _, leak in page:
            held = known[leak.held_id]
            yield ListedLeak(leak, held, held.prompt if leak.sample_id is None else known[leak.sample_id].prompt)


def _leak(sample: samples.Sample, held_id: int, similarity: float) -> leaks.Leak:
    return leaks.Leak(sample.split, sample.source, sample.row_ref, sample.id, held_id, similarity)


def _texts(store: Store, splits: Iterable[str], after: int = 0) -> Iterator[Text]:
    """Yield ids and prompts of the usable samples of some splits, reading a page at a time."""
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
    return (text for text in texts if text[0] <= last)


def _reason(overlap: Overlap) -> str:
    how = "repeats" if overlap.similarity == 1 else f"nearly repeats ({overlap.similarity:.2f})"
    return f"{how} the held-out sample {overlap.measure_id}"
