"""Bulk insert of samples: drops the index of their digests, and recreates it over all rows afterwards.

Digests are random: inserted one by one they touch all pages of the index, ever more slowly, and leave the pages two
thirds full. Sorted, they are written page after page. Both steps are in the caller's transaction: until it commits,
and after a kill, readers see the old database.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, LargeBinary, select, type_coerce

from wizloop.store import samples, tables
from wizloop.store.engine import keep_schema_in_cache
from wizloop.store.samples import Added, Kept, Take
from wizloop.store.spool import Spool

LEAST = 30_000
"""Fewest new samples for which the index is recreated: inserting into a smaller one is no slower than sorting."""
MOST = 3_000_000
"""Most samples for which it is: SQLite sorts their digests in memory, 100 bytes each."""
_HEAD = 8
_PIECE = 1000
_LOOK_EVERY = 10

Heads = NDArray[np.uint64]
"""First 8 bytes of each row's digest, in the order of the rows."""


def heads_of(rows: Sequence[Kept]) -> bytes:
    """Return the bytes of the `Heads` of some rows."""
    return b"".join([digest[:_HEAD] for digest in map(samples.digest_of, rows)])


def as_heads(made: bytes | bytearray) -> Heads:
    """Convert the bytes of `heads_of` to one number per row."""
    return np.frombuffer(made, np.uint64)


def add_kept(db: Connection, pieces: Iterable[Sequence[Kept]], heads: Heads, now: datetime, take: Take) -> Added:
    """Add checked rows as `samples.add_kept` does, given the head of each row.

    Rows that may repeat a text wait in a spool until the index exists again. Raises errors.DiskFull.
    """
    doubtful = _doubtful(db, heads)
    if doubtful is None:
        return samples.add_kept(db, pieces, now, take)
    (index,) = (index for index in tables.samples.indexes if index.unique)
    with Spool() as later:
        index.drop(db)
        new = samples.append(db, _new(_with_cached_schema(db, pieces), doubtful, later), now)
        index.create(db)
        rest = samples.add_kept(db, _rechunked(later), now, take)
    return Added(new + rest.added, rest.duplicates, rest.conflicts, rest.elsewhere)


def _doubtful(db: Connection, heads: Heads) -> NDArray[np.bool_] | None:
    """Mark the rows that may repeat a text of the store or of an earlier row; None to keep the index."""
    there = samples.newest(db)
    least = max(LEAST, there)
    if not least <= len(heads) <= MOST - there:
        return None
    new = np.zeros(len(heads), np.bool_)
    new[np.unique(heads, return_index=True)[1]] = True
    if there:
        new &= ~np.isin(heads, _heads_there(db))
    return None if np.count_nonzero(new) < least else ~new


def _heads_there(db: Connection) -> Heads:
    digests = db.scalars(select(type_coerce(tables.samples.c.hash, LargeBinary)))
    return as_heads(b"".join(bytes(digest)[:_HEAD] for digest in digests))


def _with_cached_schema(db: Connection, pieces: Iterable[Sequence[Kept]]) -> Iterator[Sequence[Kept]]:
    """Yield the chunks, and keep the changed schema in the cache meanwhile."""
    for number, piece in enumerate(pieces):
        if number % _LOOK_EVERY == 0:
            keep_schema_in_cache(db)
        yield piece


def _new(pieces: Iterable[Sequence[Kept]], doubtful: NDArray[np.bool_], later: Spool) -> Iterator[Sequence[Kept]]:
    """Yield the rows that are not doubtful; put the others in `later`."""
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


def _rechunked(spool: Spool) -> Iterator[list[Kept]]:
    """Yield the rows of a spool a thousand at a time: a chunk may have left only a few there."""
    rows = chain.from_iterable(spool.pieces())
    while piece := list(islice(rows, _PIECE)):
        yield piece
