"""What was measured of the run's teachers before they were believed: the rows, the figures, and who is left out.

Kept in the record of round 0. A teacher that is left out stays out for the run.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection

from wizloop.store import steps
from wizloop.store.checked_teacher import Checked, from_table

KEY = "teacher_check"
"""Key of round 0's record."""


def keep_rows(db: Connection, sample_ids: Sequence[int]) -> None:
    """Keep which samples the teachers are checked on. Raises errors.NotFound before round 0 has begun."""
    _change(db, {"rows": list(sample_ids)})


def rows(db: Connection) -> list[int] | None:
    """Return the samples that teachers are asked about without their labels, or None before they are drawn."""
    found: list[int] | None = _record(db).get("rows")
    return found


def keep(db: Connection, checked: Checked, trace_ids: Sequence[int] = ()) -> None:
    """Keep what is known of a teacher, in place of what was known before. Raises errors.NotFound.

    `trace_ids` are its model's traces on the rows: those of one that is left out are no lessons.
    """
    record, model = _record(db), json.dumps([checked.teacher, checked.model])
    known = {**record.get("teachers", {}), checked.teacher: asdict(checked)}
    before = record.get("disbelieved", {})
    ids = sorted({*before.get(model, ()), *trace_ids}) if checked.left_out else []
    _change(db, {"teachers": known, "disbelieved": {**before, model: ids}})


def disbelieved(db: Connection) -> set[int]:
    """Return the traces of teachers, or of their former models, that are left out: they teach nothing."""
    return {one for ids in _record(db).get("disbelieved", {}).values() for one in ids}


def every(db: Connection) -> dict[str, Checked]:
    """Return what is known of each teacher, by name."""
    return from_table(_record(db).get("teachers", {}))


def left_out(db: Connection) -> dict[str, str]:
    """Return the teachers that are left out for this run, by name, with their figures in words."""
    return {name: one.sentence() for name, one in every(db).items() if one.left_out}


def _record(db: Connection) -> dict[str, Any]:
    first = steps.get_round(db, 0)
    return {} if first is None else first.record.get(KEY, {})


def _change(db: Connection, values: Mapping[str, Any]) -> None:
    steps.merge_record(db, 0, {KEY: {**_record(db), **values}})
