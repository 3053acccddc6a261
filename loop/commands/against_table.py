"""Tables of comparisons for a terminal of 80 columns, for `evaluate --against` and `rounds --against`."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from wizloop.loop.evaluation.against import Line


def of_round(found: "Sequence[Line]", round: int | str) -> dict[str, Any]:
    """Return the comparisons of one round under the key `against`; of the round that all are held against, none."""
    return {"against": [one.to_json() for one in found if one.ours in (round, f"round {round}")]}


def show(found: "Sequence[Line]") -> None:
    """Print differences with intervals, the tests, and what both tables mean; nothing without a comparison."""
    from wizloop.console.tables import console_for_tables, plain
    from wizloop.loop.commands.common import say
    from wizloop.loop.evaluation import against

    if not found:
        return
    console = console_for_tables()
    console.print()
    for heads, cells in ((against.HEADS, against.f1_cells), (against.TEST_HEADS, against.verdict_cells)):
        console.print(_table(found, heads, cells(found)))
        console.print()
    for theirs in dict.fromkeys(one.theirs for one in found):
        ours = dict.fromkeys(one.ours for one in found if one.theirs == theirs)
        console.print(plain(f"{', '.join(ours)} against {theirs}.", 2000))
    console.print(plain(against.reading_aid(found), 2000))
    for line in against.left_out(found):
        say(line)


def _table(found: "Sequence[Line]", heads: Sequence[str], rows: Iterable[Sequence[str]]) -> "Table":
    """Build a table; where several guards are compared, their names come first."""
    from rich.table import Table

    from wizloop.console.tables import plain

    named = len({(one.benchmark, one.task) for one in found}) < len(found)
    table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
    for head in (*(["guard"] if named else []), *heads):
        words = head in ("guard", "benchmark", "task", "it is")
        table.add_column(head, justify="left" if words else "right", overflow="fold")
    for one, row in zip(found, rows, strict=True):
        table.add_row(*map(plain, ((one.ours,) if named else ()) + tuple(row)))
    return table
