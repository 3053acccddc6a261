"""What is known of one teacher that was measured before it was believed. Without SQLAlchemy, for `wizloop status`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ROWS_WANTED = 60
"""Rows of the seed that a teacher is asked about; with fewer the interval is wide, and the figures say so."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What is known of one teacher. Shares are fractions; None where nothing could be measured, and `why` says why."""

    teacher: str
    model: str
    day: str
    """As 2026-12-01."""
    rows: int = 0
    """Rows of the seed that it was asked about."""
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
        few = f"; the interval is wide: {self.rows} rows" if self.rows < ROWS_WANTED else ""
        out = f"; left out: below {100 * self.bound:g} %{self._by_label()}" if self.left_out else ""
        return f"{self.teacher}: {found}, checked {self.day}{few}{out}"

    def _by_label(self) -> str:
        shares = [f"{label} {right} of {n}" for label, (right, n) in (self.by_label or {}).items()]
        return f" ({', '.join(shares)})" if shares else ""


def from_table(table: Mapping[str, Mapping[str, Any]]) -> dict[str, Checked]:
    """Return what a record's table holds of each teacher, by name."""
    return {name: Checked(**{**values, "by_label": _counts(values["by_label"])}) for name, values in table.items()}


def _counts(given: Mapping[str, Any] | None) -> dict[str, tuple[int, int]] | None:
    return None if given is None else {label: (right, n) for label, (right, n) in given.items()}
