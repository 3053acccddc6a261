"""What became of the rows of one file: counted, listed for scripts, and a file refused for what its rows are."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from wizloop.loop.data.containers import ImportRefused
from wizloop.loop.data.sample_rows import Refused
from wizloop.store import samples


@dataclass
class Taken:
    """accepted + duplicates + conflicts + refused + withheld = rows, but for a `sample`, which takes some of them."""

    rows: int = 0
    accepted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    elsewhere: int = 0
    """Of the duplicates, those that were there in another split."""
    withheld: int = 0
    """Good rows of a file that is refused for its bad ones."""
    refused: list[Refused] = field(default_factory=list)
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    format: str = ""
    note: str = ""
    """What is to be known of such a file."""

    @property
    def bad(self) -> list[Refused]:
        """The refused rows that are broken, and not just of no use."""
        return [row for row in self.refused if row.bad]

    def to_json(self) -> dict[str, Any]:
        """As `wizloop import --json` prints it."""
        return {
            "rows": self.rows,
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "conflicts": self.conflicts,
            "elsewhere": self.elsewhere,
            "withheld": self.withheld,
            "refused": [row._asdict() for row in self.refused],
            "labels": self.labels,
            "format": self.format,
            "note": self.note,
        }

    def count(self, added: samples.Added) -> None:
        """Add what became of some of its rows."""
        self.accepted += added.added
        self.duplicates += added.duplicates
        self.conflicts += added.conflicts
        self.elsewhere += added.elsewhere


class RowsRefused(ImportRefused):
    """A file was read to its end, and nothing of it is taken because of what its rows are."""

    def __init__(self, message: str, taken: Taken) -> None:
        """`taken` counts and lists all that was read."""
        super().__init__(message)
        self.taken = taken


def bad_rows(path: str, bad: Sequence[Refused], rows: int) -> str:
    """Why a file of so many rows is refused for the bad ones among them, and what to do."""
    first = bad[0]
    those = f"it and {len(bad) - 1:,} more bad rows refuse" if len(bad) > 1 else "this bad row refuses"
    return (
        f"{path}: row {first.row}: {first.reason}; {those} the whole file, and nothing of its {rows:,} rows is taken: "
        "mend it, or leave bad rows out (--skip-bad, in a recipe skip_bad = true)"
    )


def named(refused: Sequence[Refused], most: int = 10) -> list[str]:
    """The first of these rows, each with its reason, and how many more there are."""
    more = [f"and {len(refused) - most:,} more"] if len(refused) > most else []
    return [*(f"row {row.row}: {row.reason}" for row in refused[:most]), *more]
