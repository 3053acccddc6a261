"""What was measured of the run's teachers before they were believed: the rows, the figures, and who is left out.

Kept in the record of round 0. A teacher that is left out stays out for the run.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import Connection

from wizloop.store import steps

KEY = "teacher_check"
"""Key of round 0's record."""
ROWS_WANTED = 60
"""Rows of the seed that a teacher is asked about; with fewer the interval is wide, and the figures say so."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What is known of one teacher. Shares are fractions; None where nothing could be measured, and `why` says why."""

    teacher: str
    model: str
    day: str
    """As 2026-12-01."""
    answered: int = 0
    right: float | None = None
    """Mean share of right answers over the labels."""
    low: float | None = None
    high: float | None = None
    by_label: Mapping[str, tuple[int, int]] | None = None
    """Right answers, and all answers, by the row's known label."""
    left_out: bool = False
    bound: float = 0.0
    """The share below which a whole interval leaves a teacher out."""
    why: str = ""

    def sentence(self) -> str:
        """Return what is known in one line: "claude: 92 % of 60 right (83-97), checked 2026-12-01"."""
        if self.right is None or self.low is None or self.high is None:
            return f"{self.teacher}: not measured: {self.why}"
        found = f"{100 * self.right:.0f} % of {self.answered} right ({100 * self.low:.0f}-{100 * self.high:.0f})"
        few = "; the interval is wide: few rows" if self.answered < ROWS_WANTED / 2 else ""
        out = f"; left out: below {100 * self.bound:g} %{self._by_label()}" if self.left_out else ""
        return f"{self.teacher}: {found}, checked {self.day}{few}{out}"

    def _by_label(self) -> str:
        shares = [f"{label} {right} of {n}" for label, (right, n) in (self.by_label or {}).items()]
        return f" ({', '.join(shares)})" if shares else ""


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
    ids = {**record.get("disbelieved", {}), model: list(trace_ids) if checked.left_out else []}
    _change(db, {"teachers": known, "disbelieved": ids})


def disbelieved(db: Connection) -> set[int]:
    """Return the traces of teachers, or of their former models, that are left out: they teach nothing."""
    return {one for ids in _record(db).get("disbelieved", {}).values() for one in ids}


def every(db: Connection) -> dict[str, Checked]:
    """Return what is known of each teacher, in the order of checking."""
    return of_record({KEY: _record(db)})


def of_record(record: Mapping[str, Any]) -> dict[str, Checked]:
    """Return what a record of round 0 knows of each teacher."""
    found = {name: Checked(**values) for name, values in record.get(KEY, {}).get("teachers", {}).items()}
    return {name: replace(one, by_label=one.by_label and _counts(one.by_label)) for name, one in found.items()}


def left_out(db: Connection) -> dict[str, str]:
    """Return the teachers that are left out for this run, each with its figures in words."""
    return {name: one.sentence() for name, one in every(db).items() if one.left_out}


def _counts(given: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, int]]:
    return {label: (right, n) for label, (right, n) in given.items()}


def _record(db: Connection) -> dict[str, Any]:
    first = steps.get_round(db, 0)
    return {} if first is None else first.record.get(KEY, {})


def _change(db: Connection, values: Mapping[str, Any]) -> None:
    steps.merge_record(db, 0, {KEY: {**_record(db), **values}})
