"""Money spent and money held back: two sums, kept with the calls that they sum, in micro-dollars."""

from dataclasses import dataclass

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from wizloop.store import tables

# One statement: it is read before and after every call.
_BUDGET = select(
    select(tables.run.c.cap_micro).scalar_subquery(),
    select(tables.budget.c.settled_micro).scalar_subquery(),
    select(tables.budget.c.reserved_micro).scalar_subquery(),
)
_NEW = insert(tables.budget)
_SUMS = {name: tables.budget.c[name] + _NEW.excluded[name] for name in ("settled_micro", "reserved_micro")}
_ADD = _NEW.on_conflict_do_update(index_elements=["id"], set_=_SUMS)


@dataclass(frozen=True, slots=True)
class Budget:
    """The run's money in micro-dollars; `reserved_micro` is the most that open calls can still cost."""

    cap_micro: int | None
    settled_micro: int
    reserved_micro: int

    def allows(self, worst_micro: int) -> bool:
        """Return whether a call fits that costs at most `worst_micro`. A free call always fits."""
        if self.cap_micro is None or worst_micro == 0:
            return True
        return self.settled_micro + self.reserved_micro + worst_micro <= self.cap_micro


def budget(db: Connection) -> Budget:
    """Return the run's cap and its two sums; the cap is None without a run or without a limit."""
    cap, settled, reserved = db.execute(_BUDGET).one()
    return Budget(cap, settled or 0, reserved or 0)


def add(db: Connection, *, settled: int = 0, reserved: int = 0) -> None:
    """Add to the two sums, in the transaction that changes the calls they sum."""
    if settled or reserved:
        db.execute(_ADD, {"id": 1, "settled_micro": settled, "reserved_micro": reserved})
