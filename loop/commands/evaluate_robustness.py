"""`evaluate --perturb` and `--group`: what is asked besides, and its tables for a terminal of 80 columns."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wizloop.loop.commands.common import refuse, say

if TYPE_CHECKING:
    from rich.table import Table

    from wizloop.loop.evaluation.answered_rows import AnsweredRow, BenchmarkRow
    from wizloop.loop.evaluation.origins import Origin
    from wizloop.loop.evaluation.robustness import AnyJudge, Calibrated, Flips, Pairs, Robustness
    from wizloop.loop.evaluation.scoring import Interval, Rate
    from wizloop.recipes.schema import Recipe


@dataclass(frozen=True)
class More:
    """What an evaluation measures besides F1."""

    perturb: Sequence[str] = ()
    """Perturbations, and PAIRS."""
    group: str | None = None
    """The column of a file by which figures are reported, too."""
    sources: Sequence[Path] = field(default=())
    """Files that the test sets of the workspace came from."""

    def of_run(self, recipe: "Recipe") -> "More":
        """Return the same for a run, whose recipe names the files of its test sets."""
        return replace(self, sources=[Path(data.path) for data in recipe.data if data.hub_split is None])

    def origins(self, name: str, rows: "Sequence[BenchmarkRow]") -> "tuple[Sequence[Origin], Sequence[BenchmarkRow]]":
        """Return where a benchmark's texts come from, and its rows with the groups that were asked for."""
        from wizloop.loop.evaluation import origins

        if not Path(name).is_file():
            return origins.of_test_set(self.sources, rows), rows
        known = origins.of_file(Path(name), rows, self.group)
        if self.group is None:
            return known, rows
        return known, [replace(row, group=one.group) for row, one in zip(rows, known, strict=True)]

    def measured(
        self,
        judge: "AnyJudge",
        name: str,
        rows: "Sequence[BenchmarkRow]",
        answered: "Sequence[AnsweredRow]",
        origins: "Sequence[Origin]",
        seed: int,
    ) -> "tuple[Robustness, Sequence[AnsweredRow]]":
        """Ask the guard again as it was asked for; say where the data has no pairs."""
        from wizloop.loop.evaluation import robustness

        found = robustness.measure(
            judge, name, rows, answered, origins, self.perturb, self.group, seed=seed, tell=lambda text: say(text)
        )
        if robustness.PAIRS in self.perturb and not found[0].pairs:
            say(f"{name}: no row has a plain text beside its rewrite, so there are no pairs")
        return found

    def ordered(self, answered: "Sequence[AnsweredRow]") -> "Sequence[AnsweredRow]":
        """Return the rows as they are written: those with the most flips first, if any was perturbed."""
        return sorted(answered, key=lambda row: -row.flips) if self.perturb else answered

    def to_json(self, found: "Sequence[Robustness]") -> dict[str, Any]:
        """Return the figures under a key of their own, or nothing."""
        if not found:
            return {}
        from wizloop.loop.evaluation import robustness

        return robustness.to_json(found)


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
    tables = [table for one in found for table in _tables(one)]
    if not tables:
        return
    from wizloop.console.tables import console_for_tables, plain

    console = console_for_tables()
    for table in tables:
        console.print()
        console.print(table)
    for line in _notes(found):
        console.print(plain(line))


def _tables(one: "Robustness") -> "Iterator[Table]":
    for (benchmark, task), flips in groupby(one.flips, key=lambda each: (each.benchmark, each.task)):
        yield _flips(f"{benchmark}, {task}", list(flips))
    if one.pairs:
        yield _pairs(one.pairs)
    for (benchmark, by), apart in groupby(one.calibrated, key=lambda each: (each.benchmark, each.by)):
        yield _calibrated(f"{benchmark}: calibration by {by}", list(apart))


def _flips(title: str, found: "Sequence[Flips]") -> "Table":
    from wizloop.loop.words import LABELS, LETS_THROUGH

    task, before = found[0].task, found[0].f1.champion
    passes = LETS_THROUGH[task]
    blocks = next(label for label in LABELS[task] if label != passes)
    heads = ("perturbed", "rows", "flipped (95 %)", f"to {passes}", f"to {blocks}", "F1 change (95 %)", "p")
    rows = [
        (
            one.perturbation,
            f"{one.changed:,}",
            _rate(one.flipped),
            f"{one.to_passed:,}",
            f"{one.to_blocked:,}",
            _change(one),
            _p(one.p),
        )
        for one in found
    ]
    return _table(heads, rows, f"{title}: perturbed" + ("" if before is None else f", F1 {100 * before:.1f} before"))


def _pairs(found: "Sequence[Pairs]") -> "Table":
    heads = ("pairs", "n", "blocked plain", "rewritten", "both", "attack success (95 %)", "p")
    rows = [
        (
            f"{one.kind}, {one.label or 'no label'}",
            f"{one.n:,}",
            *(_rate(each, with_interval=False) for each in (one.plain, one.rewritten, one.both)),
            _rate(one.attack_success),
            _p(one.p),
        )
        for one in found
    ]
    return _table(heads, rows, f"{found[0].benchmark}: rewrites that the data has")


def _calibrated(title: str, found: "Sequence[Calibrated]") -> "Table":
    rows = [(one.value, one.task, f"{one.n:,}", _interval(one.ece), _interval(one.brier)) for one in found]
    return _table((found[0].by, "task", "rows", "ECE", "Brier"), rows, title)


def _notes(found: "Sequence[Robustness]") -> Iterator[str]:
    flips = [one for each in found for one in each.flips]
    if flips:
        yield "p: exact McNemar test of being right before and after. Flips are of rows that the perturbation changes."
    if any(one.family == "control" for one in flips):
        yield "again: the same texts with other draws of the traces; what flips there, no perturbation did."
    if unparsed := sum(one.unparsed for one in flips):
        yield f"{unparsed:,} answers on perturbed texts cannot be read: they count as wrong in F1, and as no flip."
    if cut := sum(one.cut for one in flips):
        yield f"{cut:,} perturbed texts are longer than the guard's limit and were cut."
    if any(each.pairs for each in found):
        yield "attack success: rewrites that are let through, of those whose plain text is blocked."
    if left := sum(one.unparsed for each in found for one in each.pairs):
        yield f"{left:,} pairs have an answer that cannot be read and are left out."


def _rate(one: "Rate", *, with_interval: bool = True) -> str:
    if one.rate is None or one.low is None or one.high is None:
        return "-"
    ends = f" ({100 * one.low:.0f}-{100 * one.high:.0f})" if with_interval else ""
    return f"{100 * one.rate:.1f} %{ends}"


def _change(one: "Flips") -> str:
    f1 = one.f1
    if f1.difference is None:
        return "-"
    ends = "" if f1.low is None or f1.high is None else f" ({100 * f1.low:+.1f} {100 * f1.high:+.1f})"
    return f"{100 * f1.difference:+.1f}{ends}"


def _interval(one: "Interval") -> str:
    if one.value is None:
        return "-"
    return f"{one.value:.3f}" + ("" if one.low is None or one.high is None else f" ({one.low:.3f}-{one.high:.3f})")


def _p(p: float | None) -> str:
    if p is None:
        return "-"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], title: str) -> "Table":
    """Build a table whose first column is words and whose others are figures, close enough for 80 columns."""
    from rich.table import Table

    from wizloop.console.tables import plain

    table = Table(
        box=None, pad_edge=False, collapse_padding=True, header_style="bold", title=plain(title), title_justify="left"
    )
    for at, head in enumerate(heads):
        table.add_column(plain(head), justify="right" if at else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(plain, row))
    return table
