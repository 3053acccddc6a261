"""Samples, and counts of them by split and label."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any, NamedTuple, cast

from sqlalchemy import Connection, Row, Select, bindparam, exists, func, select, update
from sqlalchemy.dialects.sqlite import insert

from wizloop.store import errors, rows, tables
from wizloop.store.engine import insert_tuples
from wizloop.store.hashing import content_digest
from wizloop.store.types import unreadable

SPLITS = ("pool", "seed", "dev", "test")
LABELS = {"request": "request", "completion": "completion", "response": "response_label"}
"""Column of each task's known label."""


class NewSample(NamedTuple):
    """A sample to add: split, exact text, origin, and known labels."""

    split: str
    prompt: str
    response: str | None
    source: str
    row_ref: str
    request: str | None = None
    completion: str | None = None
    response_label: str | None = None
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """A stored sample. `excluded` is the reason why it is not used, or None."""

    id: int
    split: str
    prompt: str
    response: str | None
    source: str
    row_ref: str
    request: str | None
    completion: str | None
    response_label: str | None
    policy: str | None
    hash: str
    excluded: str | None

    @property
    def labels(self) -> dict[str, str]:
        """The dataset's known labels by task."""
        known = {task: getattr(self, column) for task, column in LABELS.items()}
        return {task: label for task, label in known.items() if label is not None}


@dataclass(frozen=True, slots=True)
class Added:
    """Outcome of adding rows: added + duplicates + conflicts is their number."""

    added: int
    duplicates: int
    """Texts that were already stored, without a conflicting label."""
    conflicts: int
    """Texts that were already stored with another label; the first stays."""
    elsewhere: int
    """Duplicates that were stored in another split."""


_SAMPLE = rows.columns(tables.samples, Sample)
KEPT = (*NewSample._fields, "hash")
"""Columns of a checked row, in the order of the tuples of `kept`."""
kind_of = itemgetter(*(KEPT.index(name) for name in ("split", *LABELS.values())))
"""Return the split of a checked row and its label of each task."""
digest_of = itemgetter(KEPT.index("hash"))
"""Return the content digest of a checked row."""
_KNOWN = [tables.samples.c[name] for name in ("hash", "id", "split", *LABELS.values())]

Kept = tuple[Any, ...]


def add(db: Connection, new: Sequence[NewSample], now: datetime) -> Added:
    """Add the samples whose text is new; a text is in one split only. A label never overwrites another.

    Adding the same rows again changes nothing. Raises errors.BadText, which names the row.
    """
    return add_kept(db, rows.pieces([kept(*row) for row in new]), now)


def kept(
    split: str,
    prompt: str,
    response: str | None,
    source: str,
    row_ref: str,
    request: str | None,
    completion: str | None,
    response_label: str | None,
    policy: str | None,
) -> Kept:
    """Check the fields of a NewSample and return them as the table stores them, with the digest.

    Raises errors.BadText, and ValueError for an unknown split.
    """
    if split not in SPLITS:
        raise ValueError(f"{source} {row_ref}: {split!r} is not a split: use one of {', '.join(SPLITS)}")
    try:
        exact = content_digest(prompt, response)
    except UnicodeEncodeError as error:
        raise errors.BadText(f"{source} {row_ref}: the text is not valid Unicode ({error.reason})") from error
    return split, prompt, response, source, row_ref, request, completion, response_label, policy, exact


Take = Callable[[Sequence[tuple[Kept, int, str]]], set[int]]
"""Given rows whose text is stored in another split, with that id and split: moves some and returns their ids."""


def add_kept(
    db: Connection, pieces: Iterable[Sequence[Kept]], now: datetime, take: Take = lambda _rows: set()
) -> Added:
    """Add checked rows, chunk by chunk in one transaction. Rows that `take` moves count as added."""
    tally: Counter[str] = Counter()
    kinds: Counter[tuple[str, ...]] = Counter()
    with _splits_known(db):
        for piece in pieces:
            _add_piece(db, piece, now, take, tally, kinds)
    _count(db, kinds, usable=1, excluded=0)
    return Added(tally["added"], tally["duplicate"] + tally["elsewhere"], tally["conflict"], tally["elsewhere"])


def append(db: Connection, pieces: Iterable[Sequence[Kept]], now: datetime) -> int:
    """Add checked rows whose texts are known to be new and distinct, chunk by chunk; return how many."""
    kinds: Counter[tuple[str, ...]] = Counter()
    with _splits_known(db):
        for piece in pieces:
            insert_tuples(db, tables.samples, (*KEPT, "added_at"), piece, now)
            kinds.update(map(kind_of, piece))
    _count(db, kinds, usable=1, excluded=0)
    return kinds.total()


@contextmanager
def _splits_known(db: Connection) -> Iterator[None]:
    """Skip SQLite's CHECK of the split, which `kept` has checked: it takes a fifth of an insert."""
    raw = cast(Any, db.connection.driver_connection)
    raw.execute("PRAGMA ignore_check_constraints=ON")
    try:
        yield
    finally:
        raw.execute("PRAGMA ignore_check_constraints=OFF")


def _add_piece(
    db: Connection,
    piece: Sequence[Kept],
    now: datetime,
    take: Take,
    tally: Counter[str],
    kinds: Counter[tuple[str, ...]],
) -> None:
    last = newest(db)
    inserted = insert_tuples(db, tables.samples, (*KEPT, "added_at"), piece, now)
    if inserted == len(piece):
        tally["added"] += inserted
        kinds.update(map(kind_of, piece))
        return
    twins = _twins(db, piece)
    moved = take([(row, twin.id, twin.split) for row, twin in twins if twin.split != kind_of(row)[0]])
    met: set[int] = set()
    for row, twin in _twins(db, piece) if moved else twins:
        again = twin.id in met
        met.add(twin.id)
        if again or (twin.id <= last and twin.id not in moved):
            tally[_verdict_on(kind_of(row), twin)] += 1
            continue
        tally["added"] += 1
        if twin.id > last:
            kinds[kind_of(row)] += 1


def move(db: Connection, taken: Mapping[int, Kept]) -> None:
    """Give samples the split, origin and labels of these rows, which have their texts; include excluded ones again."""
    table = tables.samples
    for piece in rows.pieces(sorted(taken)):
        known = db.execute(select(*_KNOWN, table.c.excluded).where(table.c.id.in_(piece))).all()
        for out in (False, True):
            old = Counter(_kind(row) for row in known if (row.excluded is not None) == out)
            _count(db, old, usable=0 if out else -1, excluded=-1 if out else 0)
        _count(db, Counter(kind_of(taken[row.id]) for row in known), usable=1, excluded=0)
        columns = ("split", "source", "row_ref", *LABELS.values(), "policy")
        changed = [
            {"row_id": row.id, **{f"new_{name}": taken[row.id][KEPT.index(name)] for name in columns}} for row in known
        ]
        values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in columns}
        if changed:
            db.execute(update(table).where(table.c.id == bindparam("row_id")).values(**values, excluded=None), changed)


def newest(db: Connection) -> int:
    """Return the highest id, 0 without samples. A sample added later has a higher one."""
    return int(db.scalar(select(func.max(tables.samples.c.id))) or 0)


def _twins(db: Connection, piece: Sequence[Kept]) -> list[tuple[Kept, Row[Any]]]:
    """Pair each row with the stored sample of its text."""
    digests = [digest_of(row).hex() for row in piece]
    there = {row.hash: row for row in db.execute(select(*_KNOWN).where(tables.samples.c.hash.in_(digests)))}
    return [(row, there[digest]) for row, digest in zip(piece, digests, strict=True)]


def _kind(row: Any) -> tuple[str, ...]:
    """Return `kind_of` for a row of the table."""
    return (row.split, *(getattr(row, column) for column in LABELS.values()))


def _verdict_on(kind: tuple[str, ...], there: Any) -> str:
    split, *labels = kind
    for ours, column in zip(labels, LABELS.values(), strict=True):
        theirs = getattr(there, column)
        if ours is not None and theirs is not None and ours != theirs:
            return "conflict"
    return "duplicate" if split == there.split else "elsewhere"


def _count(db: Connection, kinds: Mapping[tuple[str, ...], int], *, usable: int, excluded: int) -> None:
    """Change the counters by `usable` and `excluded` for each row; a kind is a split and the label of each task."""
    splits: Counter[str] = Counter()
    labels: Counter[tuple[str, str, str]] = Counter()
    for (split, *known), n in kinds.items():
        splits[split] += n
        for task, label in zip(LABELS, known, strict=True):
            if label is not None:
                labels[split, task, label] += n
    for split, n in splits.items():
        _raise_counter(db, tables.sample_counts, {"split": split}, {"usable": n * usable, "excluded": n * excluded})
    for (split, task, label), n in labels.items():
        _raise_counter(db, tables.label_counts, {"split": split, "task": task, "label": label}, {"n": n * usable})


def _raise_counter(db: Connection, table: Any, key: dict[str, str], by: dict[str, int]) -> None:
    new = insert(table).values(**key, **by)
    raised = {name: table.c[name] + n for name, n in by.items()}
    db.execute(new.on_conflict_do_update(index_elements=list(key), set_=raised))


def get(db: Connection, ids: Sequence[int]) -> list[Sample]:
    """Return the samples with these ids, by id; unknown ids are left out."""
    table = tables.samples
    return rows.by_ids(db, Sample, select(*_SAMPLE).order_by(table.c.id), table.c.id, ids)


def with_texts(db: Connection, kept_rows: Sequence[Kept]) -> list[Sample | None]:
    """Return the stored sample of each checked row's text, whatever its split, or None."""
    table, digests = tables.samples, [digest_of(row).hex() for row in kept_rows]
    query = select(*_SAMPLE).where(table.c.hash.in_(digests))
    there = {one.hash: one for one in rows.every(db, Sample, query)}
    return [there.get(digest) for digest in digests]


def _in_split(query: Select[Any], split: str, after_id: int, *, include_excluded: bool = False) -> Select[Any]:
    """Restrict a query to the samples of a split after an id, by id."""
    table = tables.samples
    query = query.where(table.c.split == split, table.c.id > after_id).order_by(table.c.id)
    return query if include_excluded else query.where(table.c.excluded.is_(None))


def page(db: Connection, split: str, after_id: int, limit: int, include_excluded: bool = False) -> list[Sample]:
    """Return the next samples of a split after an id (0 at first), by id. Raises errors.Damaged."""
    query = _in_split(select(*_SAMPLE), split, after_id, include_excluded=include_excluded)
    found = rows.every(db, Sample, query.limit(limit))
    # One flipped bit makes a text a blob, which no later code expects.
    if spoiled := next((one for one in found if not isinstance(one.prompt, str)), None):
        raise unreadable(str(spoiled.prompt))
    return found


def prompts(db: Connection, split: str, after_id: int, limit: int) -> list[tuple[int, str]]:
    """Return ids and prompts of the next usable samples of a split after an id, by id."""
    columns = (tables.samples.c.id, tables.samples.c.prompt)
    return [(row.id, row.prompt) for row in db.execute(_in_split(select(*columns), split, after_id).limit(limit))]


def ids(db: Connection, split: str) -> list[int]:
    """Return the ids of all usable samples of a split, in order."""
    return list(db.scalars(_in_split(select(tables.samples.c.id), split, 0)))


def counts(db: Connection) -> dict[str, int]:
    """Count the usable samples of each of the four splits."""
    table = tables.sample_counts
    return {**dict.fromkeys(SPLITS, 0), **rows.counted(db, select(table.c.split, table.c.usable))}


def name_benchmark(db: Connection, name: str) -> None:
    """Keep a name under which test samples are reported: it is their source."""
    rows.add_missing(db, tables.benchmarks, [{"name": name}])


def benchmarks(db: Connection) -> set[str]:
    """Return the names under which imported test samples are reported."""
    return set(db.execute(select(tables.benchmarks.c.name)).scalars())


def any_since(db: Connection, moment: datetime) -> bool:
    """Return whether a sample was added at or after a time."""
    return db.execute(select(exists().where(tables.samples.c.added_at >= moment))).scalar_one()


def label_counts(db: Connection) -> dict[str, dict[str, dict[str, int]]]:
    """Count the usable samples by known label: {split: {task: {label: n}}}."""
    table = tables.label_counts
    counted: dict[str, dict[str, dict[str, int]]] = {}
    for split, task, label, n in db.execute(select(*table.c).where(table.c.n > 0).order_by(*table.primary_key)):
        counted.setdefault(split, {}).setdefault(task, {})[label] = n
    return counted


def exclude(db: Connection, ids: Sequence[int], reason: str) -> int:
    """Exclude samples for a reason, and return how many were usable. An excluded one keeps its reason."""
    return exclude_each(db, dict.fromkeys(ids, reason))


def exclude_each(db: Connection, reasons: Mapping[int, str]) -> int:
    """Exclude samples, each for its own reason, and return how many were usable."""
    table = tables.samples
    excluded = 0
    for piece in rows.pieces(sorted(reasons)):
        usable = (table.c.id.in_(piece), table.c.excluded.is_(None))
        changed = db.execute(select(*_KNOWN).where(*usable)).all()
        if not changed:
            continue
        given = [{"row_id": row.id, "reason": reasons[row.id]} for row in changed]
        db.execute(update(table).where(table.c.id == bindparam("row_id")).values(excluded=bindparam("reason")), given)
        _count(db, Counter(map(_kind, changed)), usable=-1, excluded=1)
        excluded += len(changed)
    return excluded
