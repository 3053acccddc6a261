"""Categories of samples, as their files name them, and models' probabilities of categories. Knows no declared names."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, select

from wizloop.store import category_tables, rows, tables

NONE = ""
"""In place of a category: the file says that the sample is in none."""
_PIECE = 500


def label(db: Connection, by_digest: Mapping[bytes, Sequence[str]]) -> int:
    """Add the categories of the samples with these texts; return how many were new. A sample keeps its first ones."""
    sample, table, added = tables.samples, category_tables.sample_categories, 0
    for piece in rows.pieces(sorted(by_digest), _PIECE):
        query = select(sample.c.id, sample.c.hash).where(sample.c.hash.in_([digest.hex() for digest in piece]))
        ids = {row.id: bytes.fromhex(row.hash) for row in db.execute(query)}
        known = set(db.scalars(select(table.c.sample_id).where(table.c.sample_id.in_(ids))))
        new = {one: by_digest[digest] or (NONE,) for one, digest in ids.items() if one not in known}
        pairs = [{"sample_id": one, "category": name} for one, names in new.items() for name in dict.fromkeys(names)]
        rows.add_missing(db, table, pairs)
        added += len(new)
    return added


def labels(db: Connection, sample_ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
    """Return the categories of each of these samples: empty for one in none. One that nobody labeled is left out."""
    table, found = category_tables.sample_categories, dict[int, tuple[str, ...]]()
    query = select(table.c.sample_id, table.c.category).order_by(table.c.sample_id, table.c.category)
    for piece in rows.pieces(sorted(sample_ids), _PIECE):
        for sample_id, name in db.execute(query.where(table.c.sample_id.in_(piece))):
            found[sample_id] = found.get(sample_id, ()) + ((name,) if name != NONE else ())
    return found


def predict(db: Connection, model_id: int, found: Mapping[int, Mapping[str, float]]) -> None:
    """Add a model's P(category) by name, by sample; a sample keeps its first ones."""
    named = [{"model_id": model_id, "sample_id": one, "probability": dict(p)} for one, p in found.items()]
    rows.add_missing(db, category_tables.category_predictions, named)


def predicted(db: Connection, model_id: int, sample_ids: Sequence[int]) -> dict[int, dict[str, float]]:
    """Return a model's P(category) by name, by sample; samples that it was not asked about are left out."""
    table, found = category_tables.category_predictions, dict[int, dict[str, float]]()
    query = select(table.c.sample_id, table.c.probability).where(table.c.model_id == model_id)
    for piece in rows.pieces(sorted(sample_ids), _PIECE):
        found |= {one: dict(p) for one, p in db.execute(query.where(table.c.sample_id.in_(piece)))}
    return found
