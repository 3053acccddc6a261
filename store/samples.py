"""Samples, and how many there are of each kind. Where they come from and what they mean is not known here."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Row, select, update

from wizloop.store import errors, rows, tables
from wizloop.store.engine import insert_many, upsert
from wizloop.store.hashing import content_hash, normal_hash

SPLITS = ("pool", "seed", "dev", "test")
LABELS = {"request": "request", "completion": "completion", "response": "response_label"}
"""The column that holds the known label of each task."""


@dataclass(frozen=True, slots=True)
class NewSample:
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
    norm_hash: str
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
_GIVEN = [field.name for field in fields(NewSample)]
_given = attrgetter(*_GIVEN)
_KNOWN = [tables.samples.c[name] for name in ("hash", "split", *LABELS.values())]


def add(db: Connection, new: Sequence[NewSample], now: datetime) -> Added:
    """Add the samples whose text is not there yet; one text is in one split. A known label never overwrites another.

    Adding the same rows again changes nothing. Raises errors.BadText, which names the row.
    """
    tally: Counter[str] = Counter()
    for piece in rows.pieces(new):
        tally += _add_piece(db, piece, now)
    duplicates = tally["duplicate"] + tally["elsewhere"]
    return Added(tally["added"], duplicates, tally["conflict"], tally["elsewhere"])


def _add_piece(db: Connection, piece: Sequence[NewSample], now: datetime) -> Counter[str]:
    hashed = [(_hash(row), row) for row in piece]
    known: dict[str, Any] = {row.hash: row for row in _known(db, [digest for digest, _ in hashed])}
    fresh: dict[str, NewSample] = {}
    tally: Counter[str] = Counter()
    for digest, row in hashed:
        there = known.get(digest)
        if there is None:
            known[digest] = fresh[digest] = row
        tally["added" if there is None else _verdict_on(row, there)] += 1
    _insert(db, fresh, now)
    return tally


def _hash(row: NewSample) -> str:
    try:
        return content_hash(row.prompt, row.response)
    except UnicodeEncodeError as error:
        raise errors.BadText(f"{row.source} {row.row_ref}: the text is not valid Unicode ({error.reason})") from error


def _known(db: Connection, digests: list[str]) -> Iterable[Row[Any]]:
    return db.execute(select(*_KNOWN).where(tables.samples.c.hash.in_(digests)))


def _verdict_on(row: NewSample, there: Any) -> str:
    for column in LABELS.values():
        ours, theirs = getattr(row, column), getattr(there, column)
        if ours is not None and theirs is not None and ours != theirs:
            return "conflict"
    return "duplicate" if row.split == there.split else "elsewhere"


def _insert(db: Connection, fresh: dict[str, NewSample], now: datetime) -> None:
    if not fresh:
        return
    kept = [(*_given(row), digest, normal_hash(row.prompt, row.response), now) for digest, row in fresh.items()]
    insert_many(db, tables.samples, (*_GIVEN, "hash", "norm_hash", "added_at"), kept)
    _count(db, fresh.values(), usable=1, excluded=0)


def _count(db: Connection, changed: Iterable[Any], *, usable: int, excluded: int) -> None:
    """Change the counters by so much for each row, which is anything with a split and labels."""
    splits: Counter[str] = Counter()
    labels: Counter[tuple[str, str, str]] = Counter()
    kinds = Counter((row.split, row.request, row.completion, row.response_label) for row in changed)
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
    table = tables.samples
    excluded = 0
    for piece in rows.pieces(sorted(set(ids))):
        usable = (table.c.id.in_(piece), table.c.excluded.is_(None))
        changed = db.execute(select(*_KNOWN).where(*usable)).all()
        db.execute(update(table).where(*usable).values(excluded=reason))
        _count(db, changed, usable=-1, excluded=1)
        excluded += len(changed)
    return excluded


def leaked(db: Connection, learned: Sequence[str], held_out: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs (id in `learned` splits, id in `held_out` splits) of usable samples that are one text when normalised.

    Of several held-out samples with that text the first is named. Reads every sample of these splits once.
    """
    held: dict[str, int] = {}
    for row in _norm_hashes(db, held_out):
        held.setdefault(row.norm_hash, row.id)
    return [(row.id, held[row.norm_hash]) for row in _norm_hashes(db, learned) if row.norm_hash in held]


def _norm_hashes(db: Connection, splits: Sequence[str]) -> Iterable[Row[Any]]:
    table = tables.samples
    query = select(table.c.id, table.c.norm_hash).where(table.c.split.in_(splits), table.c.excluded.is_(None))
    return db.execute(query.order_by(table.c.id))
