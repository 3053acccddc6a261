"""`evaluate --perturb` and `--group`: what is asked besides, and its tables for a terminal of 80 columns."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wizloop.loop.commands.common import refuse, say

MOST_GROUPS = 12
"""Groups of one table to print; --json has all."""

if TYPE_CHECKING:
    from rich.table import Table

    from wizloop.loop.evaluation.answered_rows import AnsweredRow, BenchmarkRow
    from wizloop.loop.evaluation.flips import AnyJudge
    from wizloop.loop.evaluation.robustness import Robustness
    from wizloop.loop.evaluation.robustness_tables import Cells
    from wizloop.loop.evaluation.scoring import BenchmarkResult, ScoredRow

    Scored = list[tuple[BenchmarkResult, Sequence[ScoredRow]]]


@dataclass
class More:
    """What an evaluation measures besides F1, and what it found."""

    perturb: Sequence[str] = ()
    """Perturbations, and PAIRS."""
    group: str | None = None
    """The column of a file by which figures are reported, too."""
    sources: Sequence[Path] = ()
    """Files that the test sets of the workspace came from."""
    found: "list[Robustness]" = field(default_factory=list)
    """By benchmark."""

    def evaluated(
        self, judge: "AnyJudge", name: str, rows: "Sequence[BenchmarkRow]", seed: int
    ) -> "tuple[Scored, Sequence[AnsweredRow]]":
        """Evaluate a guard on a benchmark, and ask it again as it was asked for."""
        from wizloop.loop.evaluation import benchmark_guard, origins, robustness

        is_file = Path(name).is_file()
        known = origins.of_file(Path(name), rows, self.group) if is_file else origins.of_test_set(self.sources, rows)
        if self.group is not None:
            rows = [replace(row, group=one.group) for row, one in zip(rows, known, strict=True)]
        scored, answered = benchmark_guard.evaluate(judge, name, rows, seed=seed)
        one, asked = robustness.measure(
            judge, name, rows, answered, known, self.perturb, self.group, seed=seed, tell=lambda text: say(text)
        )
        if robustness.PAIRS in self.perturb and not (one.pairs or one.contrasts):
            say(f"{name}: no row has a plain text beside its rewrite, or an unsafe twin, so there are no pairs")
        self.found.append(one)
        return scored, asked

    def ordered(self, answered: "Sequence[AnsweredRow]") -> "Sequence[AnsweredRow]":
        """Return the rows as they are written: those with the most flips first, if any was perturbed."""
        return sorted(answered, key=lambda row: -row.flips) if self.perturb else answered

    def to_json(self) -> dict[str, Any]:
        """Return the figures under a key of their own, or nothing."""
        if not self.found:
            return {}
        from wizloop.loop.evaluation import robustness

        return robustness.to_json(self.found)


def wanted(perturb: str | None, group: str | None, benchmarks: Sequence[str]) -> More:
    """Return what is asked for. Refuses an unknown perturbation, and --group for what is no file."""
    if group is not None and not (benchmarks and all(Path(name).is_file() for name in benchmarks)):
        refuse("--group is for a file of rows or for --predictions: leave it out, a test set has its own policies")
    if perturb is None:
        return More(group=group)
    from wizloop.loop.evaluation import perturbations, robustness

    names = [name.strip().casefold() for name in perturb.split(",")]
    pairs = [robustness.PAIRS] if {robustness.PAIRS, "all"} & set(names) else []
    rest = [name for name in names if name and name != robustness.PAIRS]
    try:
        chosen = perturbations.chosen(",".join(rest)) if rest or not pairs else ()
    except ValueError as error:
        refuse(f"--perturb: {error}, {robustness.PAIRS}")
    return More((*chosen, *pairs), group)


def show(found: "Sequence[Robustness]") -> None:
    """Print flips by benchmark and task, pairs, and calibration apart; nothing where nothing was measured."""
    from wizloop.loop.evaluation import robustness_tables

    every = [cells for one in found for cells in robustness_tables.tables(one)]
    if not every:
        return
    from wizloop.console.tables import console_for_tables, plain

    console = console_for_tables()
    for cells in every:
        console.print()
        console.print(_table(cells))
    for line in robustness_tables.notes(found):
        console.print(plain(line))


def _table(cells: "Cells") -> "Table":
    """Build a table that is close enough for 80 columns; a long one is cut."""
    from rich.table import Table

    from wizloop.console.tables import plain

    table = Table(
        box=None,
        pad_edge=False,
        collapse_padding=True,
        header_style="bold",
        title=plain(cells.title),
        title_justify="left",
    )
    if cells.told:
        table.caption, table.caption_justify = plain(cells.told, 1000), "left"
    for at, head in enumerate(cells.heads):
        table.add_column(plain(head), justify="right" if at else "left", overflow="fold")
    shown = MOST_GROUPS if cells.long else len(cells.rows)
    for row in cells.rows[:shown]:
        table.add_row(*map(plain, row))
    if len(cells.rows) > shown:
        table.add_row(f"and {len(cells.rows) - shown:,} more")
    return table
