"""Many samples at once: the index of their digests is left out while they come, and made anew over all of them.

Digests are random: written one by one they go to all pages of the index in turn, a walk that gets slower with every
row, and leave the pages two thirds full. Sorted, they are written page after page. Both steps are of the caller's
transaction: readers see the database of before, and so does whoever comes after a kill.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, LargeBinary, select, type_coerce

from wizloop.store import samples, tables
from wizloop.store.engine import keep_schema_in_cache, reads_past_ddl
from wizloop.store.samples import Added, Kept, Take
from wizloop.store.spool import Spool

LEAST = 30_000
"""New samples from which on the index is made anew: the walk through a smaller one costs no more than sorting."""
MOST = 3_000_000
"""Samples up to which it is: SQLite sorts their digests in memory, in 100 bytes each."""
_HEAD = 8
_PIECE = 1000
_LOOK_EVERY = 10

Heads = NDArray[np.uint64]
"""The first 8 bytes of the digests of rows, in the order of the rows."""


def heads_of(rows: Sequence[Kept]) -> bytes:
    """What `Heads` are made of, for some rows."""
    return b"".join([digest[:_HEAD] for digest in map(samples.digest_of, rows)])


def as_heads(made: bytes | bytearray) -> Heads:
    """What `heads_of` made, one number a row."""
    return np.frombuffer(made, np.uint64)


def add_kept(db: Connection, pieces: Iterable[Sequence[Kept]], heads: Heads, now: datetime, take: Take) -> Added:
    """`samples.add_kept` for rows of which the heads are known beforehand, with the same outcome; `heads` has one each.

    Rows that may repeat a text wait in a spool until the index stands again. Raises errors.DiskFull.
    """
    doubtful = _doubtful(db, heads)
    if doubtful is None:
        return samples.add_kept(db, pieces, now, take)
    (index,) = (index for index in tables.samples.indexes if index.unique)
    with Spool() as later:
        index.drop(db)
        new = samples.append(db, _new(_attended(db, pieces), doubtful, later), now)
        index.create(db)
        rest = samples.add_kept(db, _together(later), now, take)
    return Added(new + rest.added, rest.duplicates, rest.conflicts, rest.elsewhere)


def _doubtful(db: Connection, heads: Heads) -> NDArray[np.bool_] | None:
    """Which rows may repeat a text of the store or of a row before; None where the index had better stay."""
    there = samples.newest(db)
    least = max(LEAST, there)
    if not least <= len(heads) <= MOST - there or not reads_past_ddl(db):
        return None
    new = np.zeros(len(heads), np.bool_)
    new[np.unique(heads, return_index=True)[1]] = True
    if there:
        new &= ~np.isin(heads, _heads_there(db))
    return None if np.count_nonzero(new) < least else ~new


def _heads_there(db: Connection) -> Heads:
    digests = db.scalars(select(type_coerce(tables.samples.c.hash, LargeBinary)))
    return as_heads(b"".join(bytes(digest)[:_HEAD] for digest in digests))


def _attended(db: Connection, pieces: Iterable[Sequence[Kept]]) -> Iterator[Sequence[Kept]]:
    """The same pieces. The schema, which has lost an index and gets it back, stays in the cache meanwhile."""
    for number, piece in enumerate(pieces):
        if number % _LOOK_EVERY == 0:
            keep_schema_in_cache(db)
        yield piece


def _new(pieces: Iterable[Sequence[Kept]], doubtful: NDArray[np.bool_], later: Spool) -> Iterator[Sequence[Kept]]:
    """The rows of which nothing is doubtful; the others go to `later`."""
    at = 0
    for piece in pieces:
        marks = doubtful[at : at + len(piece)]
        at += len(piece)
        if not marks.any():
            yield piece
            continue
        later.put([row for row, mark in zip(piece, marks, strict=True) if mark])
        if certain := [row for row, mark in zip(piece, marks, strict=True) if not mark]:
            yield certain


def _together(spool: Spool) -> Iterator[list[Kept]]:
    """All rows of a spool, a thousand at a time: a piece may have left only a few there."""
    rows = chain.from_iterable(spool.pieces())
    while piece := list(islice(rows, _PIECE)):
        yield piece
