"""Samples, and how many there are of each kind. Where they come from and what they mean is not known here."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any, NamedTuple, cast

from sqlalchemy import Connection, Row, bindparam, exists, func, select, update

from wizloop.store import errors, rows, tables
from wizloop.store.engine import insert_new, upsert
from wizloop.store.hashing import content_digest

SPLITS = ("pool", "seed", "dev", "test")
LABELS = {"request": "request", "completion": "completion", "response": "response_label"}
"""The column that holds the known label of each task."""


class NewSample(NamedTuple):
    """A sample to add: its split, its exact text, where it came from, the labels that are known."""

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
    """A sample as it is kept. `excluded` is the reason why it is not used, or None."""

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


@dataclass(frozen=True, slots=True)
class Added:
    """What became of the rows: added + duplicates + conflicts is how many there were."""

    added: int
    duplicates: int
    """Texts that were there already, with no label that contradicts."""
    conflicts: int
    """Texts that were there already with another label; the first stays."""
    elsewhere: int
    """How many of the duplicates were there in another split."""


_SAMPLE = rows.columns(tables.samples, Sample)
KEPT = (*NewSample._fields, "hash")
"""The columns of a checked row, in the order of what `kept` makes."""
kind_of = itemgetter(*(KEPT.index(name) for name in ("split", *LABELS.values())))
"""The split and the label of each task of a checked row."""
digest_of = itemgetter(KEPT.index("hash"))
"""The content digest of a checked row."""
_KNOWN = [tables.samples.c[name] for name in ("hash", "id", "split", *LABELS.values())]

Kept = tuple[Any, ...]


def add(db: Connection, new: Sequence[NewSample], now: datetime) -> Added:
    """Add the samples whose text is not there yet; one text is in one split. A known label never overwrites another.

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
    """The values of a NewSample as the table keeps them, the digest with them.

    Raises errors.BadText, and ValueError for a split that is none.
    """
    if split not in SPLITS:
        raise ValueError(f"{source} {row_ref}: {split!r} is no split: {', '.join(SPLITS)}")
    try:
        exact = content_digest(prompt, response)
    except UnicodeEncodeError as error:
        raise errors.BadText(f"{source} {row_ref}: the text is not valid Unicode ({error.reason})") from error
    return split, prompt, response, source, row_ref, request, completion, response_label, policy, exact


Take = Callable[[Sequence[tuple[Kept, int, str]]], set[int]]
"""Given rows whose text is there in another split, with its id and split: moves some, and tells which ids."""


def add_kept(
    db: Connection, pieces: Iterable[Sequence[Kept]], now: datetime, take: Take = lambda _rows: set()
) -> Added:
    """`add` for rows that `kept` made, piece after piece in one transaction. What `take` moves counts as added."""
    tally: Counter[str] = Counter()
    kinds: Counter[tuple[str, ...]] = Counter()
    with _splits_known(db):
        for piece in pieces:
            _add_piece(db, piece, now, take, tally, kinds)
    _count(db, kinds, usable=1, excluded=0)
    return Added(tally["added"], tally["duplicate"] + tally["elsewhere"], tally["conflict"], tally["elsewhere"])


def append(db: Connection, pieces: Iterable[Sequence[Kept]], now: datetime) -> int:
    """Add rows whose texts are known to be new and different, piece after piece in one transaction; how many."""
    kinds: Counter[tuple[str, ...]] = Counter()
    with _splits_known(db):
        for piece in pieces:
            insert_new(db, tables.samples, (*KEPT, "added_at"), piece, now)
            kinds.update(map(kind_of, piece))
    _count(db, kinds, usable=1, excluded=0)
    return kinds.total()


@contextmanager
def _splits_known(db: Connection) -> Iterator[None]:
    """Spares SQLite the CHECK of the split, which `kept` has held: it is a fifth of an insert."""
    if db.dialect.name != "sqlite":
        yield
        return
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
    inserted = insert_new(db, tables.samples, (*KEPT, "added_at"), piece, now)
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
    """Give samples the split, origin and labels of these rows, which have their very texts; they are in use again."""
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
    """The highest id; 0 where there is no sample. A sample that is added later has a higher one."""
    return int(db.scalar(select(func.max(tables.samples.c.id))) or 0)


def _twins(db: Connection, piece: Sequence[Kept]) -> list[tuple[Kept, Row[Any]]]:
    """Each row with what the table holds of its text."""
    digests = [digest_of(row).hex() for row in piece]
    there = {row.hash: row for row in db.execute(select(*_KNOWN).where(tables.samples.c.hash.in_(digests)))}
    return [(row, there[digest]) for row, digest in zip(piece, digests, strict=True)]


def _kind(row: Any) -> tuple[str, ...]:
    """`kind_of` for a row of the table."""
    return (row.split, *(getattr(row, column) for column in LABELS.values()))


def _verdict_on(kind: tuple[str, ...], there: Any) -> str:
    split, *labels = kind
    for ours, column in zip(labels, LABELS.values(), strict=True):
        theirs = getattr(there, column)
        if ours is not None and theirs is not None and ours != theirs:
            return "conflict"
    return "duplicate" if split == there.split else "elsewhere"


def _count(db: Connection, kinds: Mapping[tuple[str, ...], int], *, usable: int, excluded: int) -> None:
    """Change the counters by so much for each row; a kind is a split and the label of each task."""
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
    new = upsert(db, table).values(**key, **by)
    raised = {name: table.c[name] + n for name, n in by.items()}
    db.execute(new.on_conflict_do_update(index_elements=list(key), set_=raised))


def get(db: Connection, ids: Sequence[int]) -> list[Sample]:
    """The samples with these ids, in id order; an id that is not there is left out."""
    found: list[Sample] = []
    for piece in rows.pieces(sorted(set(ids))):
        query = select(*_SAMPLE).where(tables.samples.c.id.in_(piece)).order_by(tables.samples.c.id)
        found += rows.every(db, Sample, query)
    return found


def page(db: Connection, split: str, after_id: int, limit: int, include_excluded: bool = False) -> list[Sample]:
    """The next samples of a split in id order: pass the last id of one page for the next one, 0 at first."""
    table = tables.samples
    query = select(*_SAMPLE).where(table.c.split == split, table.c.id > after_id)
    if not include_excluded:
        query = query.where(table.c.excluded.is_(None))
    return rows.every(db, Sample, query.order_by(table.c.id).limit(limit))


def ids(db: Connection, split: str) -> list[int]:
    """The ids of all usable samples of a split, in order."""
    table = tables.samples
    query = select(table.c.id).where(table.c.split == split, table.c.excluded.is_(None)).order_by(table.c.id)
    return list(db.scalars(query))


def counts(db: Connection) -> dict[str, int]:
    """How many usable samples each of the four splits has."""
    table = tables.sample_counts
    return {**dict.fromkeys(SPLITS, 0), **rows.counted(db, select(table.c.split, table.c.usable))}


def any_since(db: Connection, moment: datetime) -> bool:
    """Whether a sample came in at or after a moment."""
    return db.execute(select(exists().where(tables.samples.c.added_at >= moment))).scalar_one()


def excluded_counts(db: Connection) -> dict[str, int]:
    """How many samples of each of the four splits are excluded."""
    table = tables.sample_counts
    return {**dict.fromkeys(SPLITS, 0), **rows.counted(db, select(table.c.split, table.c.excluded))}


def label_counts(db: Connection) -> dict[str, dict[str, dict[str, int]]]:
    """How many usable samples have which known label: {split: {task: {label: n}}}."""
    table = tables.label_counts
    counted: dict[str, dict[str, dict[str, int]]] = {}
    for split, task, label, n in db.execute(select(*table.c).where(table.c.n > 0).order_by(*table.primary_key)):
        counted.setdefault(split, {}).setdefault(task, {})[label] = n
    return counted


def exclude(db: Connection, ids: Sequence[int], reason: str) -> int:
    """Take samples out of use and say why; how many were in use. One that is out already keeps its reason."""
    return exclude_each(db, dict.fromkeys(ids, reason))


def exclude_each(db: Connection, reasons: Mapping[int, str]) -> int:
    """`exclude`, with a reason for each id."""
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


def prompts(db: Connection, split: str, after_id: int, limit: int) -> list[tuple[int, str]]:
    """Ids and prompts of the next usable samples of a split, as `page` gives them."""
    table = tables.samples
    query = select(table.c.id, table.c.prompt).where(
        table.c.split == split, table.c.id > after_id, table.c.excluded.is_(None)
    )
    return [(row.id, row.prompt) for row in db.execute(query.order_by(table.c.id).limit(limit))]
