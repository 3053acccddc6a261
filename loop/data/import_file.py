"""One file brought in: read, checked and hashed to its end first, and only then written.

A file that cannot be used leaves no trace. In between the rows wait in a spool on disk, so that a million of them take
no memory and hold nobody up.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path

import numpy as np

from wizloop.loop.data import leaks
from wizloop.loop.data.containers import ImportRefused
from wizloop.loop.data.import_report import RowsRefused, Taken, bad_rows
from wizloop.loop.data.importing import Asked, read_rows, stream_samples
from wizloop.loop.data.sample_rows import Reading, SampleRow, Where
from wizloop.recipes.sections import Data
from wizloop.store import bulk_import, samples
from wizloop.store.db import Connection, Store
from wizloop.store.spool import Spool

PIECE = 1000
"""Rows that are checked together."""

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Checked:
    """A file that was read to its end; close its spool when it is written."""

    spool: Spool
    taken: Taken
    chosen: frozenset[int] | None
    """The places of the rows to take; None takes all."""
    heads: bulk_import.Heads
    """Of all rows in the spool."""

    @property
    def count(self) -> int:
        """Rows to write."""
        return self.spool.count if self.chosen is None else len(self.chosen)

    def pieces(self) -> Iterator[Sequence[samples.Kept]]:
        """The rows to write, in the file's order."""
        at = 0
        for piece in self.spool.pieces():
            if self.chosen is None:
                yield piece
            elif wanted := [row for place, row in enumerate(piece, start=at) if place in self.chosen]:
                yield wanted
            at += len(piece)

    def heads_to_write(self) -> bulk_import.Heads:
        """The heads of the rows that `pieces` gives."""
        return self.heads if self.chosen is None else self.heads[sorted(self.chosen)]


def check(data: Data, rng: np.random.Generator, progress: Progress = lambda _: None) -> Checked:
    """Read and hash a file as a recipe's [[data]] names it, to its end.

    Raises ImportRefused, and of these RowsRefused where no row is of use, or a bad one is not to be left out.
    """
    reading = opened(data)
    spool = Spool()
    try:
        taken = Taken(format=reading.format, note=reading.note)
        labels, heads = _fill(spool, reading, data, taken, progress)
        if (why := _refusal(data, taken, spool.count)) is not None:
            taken.withheld = spool.count
            raise RowsRefused(why, taken)
        chosen = None
        if data.sample is not None:
            chosen = _drawn(heads, data.sample, rng)
            kinds = Checked(spool, taken, chosen, heads).pieces()
            labels = Counter(samples.kind_of(row) for piece in kinds for row in piece)
        taken.labels = _counted(labels)
        return Checked(spool, taken, chosen, heads)
    except BaseException:
        spool.close()
        raise


def write(
    store: Store, checked: Checked, now: datetime, *, keep: bool = True, progress: Progress = lambda _: None
) -> None:
    """Add the rows in one transaction, and undo it again where nothing is to be kept."""

    def pieces() -> Iterator[Sequence[samples.Kept]]:
        done = 0
        for piece in checked.pieces():
            yield piece
            done += len(piece)
            progress(done)

    heads = checked.heads_to_write()
    with store.write() as db:
        checked.taken.count(bulk_import.add_kept(db, pieces(), heads, now, lambda rows: leaks.settle(db, rows, now)))
        if not keep:
            db.rollback()


def add(db: Connection, pieces: Iterable[Sequence[samples.Kept]], now: datetime) -> samples.Added:
    """Add checked rows; of a text that is in another split already, what measures has it."""
    return samples.add_kept(db, pieces, now, lambda rows: leaks.settle(db, rows, now))


def opened(data: Data) -> Reading:
    """The rows of a file as a recipe's [[data]] asks for them, read as they are taken. Raises ImportRefused."""
    refuse_hidden(data)
    asked: Asked = {
        "fmt": data.format,
        "mapping": data.map or None,
        "limit": data.limit,
        "hide_labels": data.hide_labels,
        "prompts_only": data.prompts_only,
        "task": data.task,
    }
    if data.max_chars is not None or data.half is not None or data.part is not None:
        asked["where"] = Where(data.max_chars, data.half, data.part)
    if data.hub_split is None:
        return stream_samples(Path(data.path), split=data.split, **asked)
    from wizloop.loop.data import hub

    return read_rows(hub.records(data.path, data.hub_split), data.path, hub.name(data.path), split=data.split, **asked)


def refuse_hidden(data: Data) -> None:
    """Raise ImportRefused where a split that measures is to come in without its labels."""
    if data.hide_labels and data.split in leaks.MEASURED:
        raise ImportRefused(
            f"{data.path}: the labels of {data.split} cannot be hidden: it is measured by them (leave out "
            "--hide-labels, in a recipe hide_labels = true)"
        )


def _fill(
    spool: Spool, reading: Reading, data: Data, taken: Taken, progress: Progress
) -> tuple[Counter[tuple[str | None, ...]], bulk_import.Heads]:
    """Put every accepted row into the spool and every other into `taken`.

    How often each kind of label is there, and the heads of the rows in the spool.
    """
    labels: Counter[tuple[str | None, ...]] = Counter()
    heads = bytearray()
    reasons: dict[str, str] = {}
    split, benchmark = data.split, data.benchmark if data.split == "test" else None
    while read := list(islice(reading.rows, PIECE)):
        kept: list[samples.Kept] = []
        for row in read:
            if isinstance(row, SampleRow):
                prompt, response, given, source, ref, policy = row
                known = given.get("request"), given.get("completion"), given.get("response")
                kept.append(samples.kept(split, prompt, response, benchmark or source, ref, *known, policy))
            else:
                # A million rows may be refused for the same reason.
                taken.refused.append(row._replace(reason=reasons.setdefault(row.reason, row.reason)))
        labels.update(map(samples.kind_of, kept))
        spool.put(kept)
        heads += bulk_import.heads_of(kept)
        taken.rows += len(read)
        progress(taken.rows)
    return labels, bulk_import.as_heads(heads)


def _refusal(data: Data, taken: Taken, good: int) -> str | None:
    """Why nothing of a file comes in that has so many good rows; None where it does."""
    if good:
        return None if data.skip_bad or not taken.bad else bad_rows(data.path, taken.bad, taken.rows)
    first = taken.refused[0] if taken.refused else None
    why = f"; the first reason is in row {first.row}: {first.reason}" if first else ""
    note = f" (a file of {taken.format}: {taken.note})" if taken.note else ""
    return f"{data.path}: no row of it can be used for {data.split}{why}{note}"


def _drawn(heads: bulk_import.Heads, wanted: int, rng: np.random.Generator) -> frozenset[int]:
    """The places of so many different texts by chance."""
    different = np.sort(np.unique(heads, return_index=True)[1])
    return frozenset(different[rng.permutation(len(different))[:wanted]].tolist())


def _counted(kinds: Mapping[tuple[str | None, ...], int]) -> dict[str, dict[str, int]]:
    """How often each label of each task is given; a task without one is left out."""
    counted: dict[str, dict[str, int]] = {}
    for at, task in enumerate(samples.LABELS, start=1):
        labels: Counter[str] = Counter()
        for kind, n in kinds.items():
            label = kind[at]
            if label is not None:
                labels[label] += n
        if labels:
            counted[task] = dict(sorted(labels.items()))
    return counted
