"""What has been spent and what is held back: the two sums, kept with the rows they sum. Micro-dollars."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, select

from wizloop.store import tables
from wizloop.store.engine import upsert

# One statement: it is asked before and after every call.
_BUDGET = select(
    select(tables.run.c.cap_micro).scalar_subquery(),
    select(tables.budget.c.settled_micro).scalar_subquery(),
    select(tables.budget.c.reserved_micro).scalar_subquery(),
)


@dataclass(frozen=True, slots=True)
class Budget:
    """The run's money in micro-dollars; `reserved_micro` is the most that calls under way can still cost."""

    cap_micro: int | None
    settled_micro: int
    reserved_micro: int

    def allows(self, worst_micro: int) -> bool:
        """Whether a call that can cost so much fits; a free one always does."""
        if self.cap_micro is None or worst_micro == 0:
            return True
        return self.settled_micro + self.reserved_micro + worst_micro <= self.cap_micro


def budget(db: Connection) -> Budget:
    """What the run may cost, has cost, and holds back; no cap where there is no run or it has none."""
    cap, settled, reserved = db.execute(_BUDGET).one()
    return Budget(cap, settled or 0, reserved or 0)


def change(db: Connection, *, settled: int = 0, reserved: int = 0) -> None:
    """Add to the two sums, in the transaction that changes the rows they sum."""
    if not settled and not reserved:
        return
    db.execute(_change(db.dialect.name), {"id": 1, "settled_micro": settled, "reserved_micro": reserved})


@cache
def _change(dialect: str) -> Any:
    """The one statement that every settlement makes, built once for each kind of database."""
    table = tables.budget
    new = upsert(dialect, table)
    sums = {name: table.c[name] + new.excluded[name] for name in ("settled_micro", "reserved_micro")}
    return new.on_conflict_do_update(index_elements=["id"], set_=sums)
