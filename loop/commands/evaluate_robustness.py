"""`evaluate --perturb` and `--group`: what is asked besides, and its tables for a terminal of 80 columns."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wizloop.loop.commands.common import refuse, say

MOST_GROUPS = 12
"""Groups of one table to print; --json has all."""

if TYPE_CHECKING:
    from rich.table import Table

    from wizloop.loop.evaluation.answered_rows import AnsweredRow, BenchmarkRow
    from wizloop.loop.evaluation.flips import AnyJudge, Flips
    from wizloop.loop.evaluation.rewrites import Contrasts, Pairs
    from wizloop.loop.evaluation.robustness import Calibrated, Robustness
    from wizloop.loop.evaluation.scoring import BenchmarkResult, Interval, Rate, ScoredRow

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
    if one.contrasts:
        yield _contrasts(one.contrasts)
    for (benchmark, task, by), apart in groupby(one.calibrated, key=lambda each: (each.benchmark, each.task, each.by)):
        yield _calibrated(f"{benchmark}, {task}: calibration by {by}", list(apart))


def _flips(title: str, found: "Sequence[Flips]") -> "Table":
    heads = ("perturbed", "rows", "flipped %", "to pass", "to block", "F1 change (95 %)", "p")
    rows = [
        (
            one.perturbation,
            f"{one.changed:,}",
            _rate(one.flipped),
            f"{one.to_passed:,}",
            f"{one.to_blocked:,}",
            _change(one),
            _p(one.paired.holm),
        )
        for one in found
    ]
    before = found[0].paired.f1.theirs
    told = _concluded(found)
    title = f"{title}: perturbed" + ("" if before is None else f", F1 {100 * before:.1f} before")
    return _table(heads, rows, title, told)


def _concluded(found: "Sequence[Flips]") -> str:
    """Say of which perturbations the guard is worse or better, and of which that cannot be told."""
    named: dict[str, list[str]] = {}
    for one in found:
        named.setdefault(one.paired.conclusion, []).append(one.perturbation)
    return "; ".join(f"{said}: {', '.join(names)}" for said, names in named.items())


def _pairs(found: "Sequence[Pairs]") -> "Table":
    heads = ("rewrites, requests", "pairs", "blocked plain", "rewritten", "both", "attack success %", "p")
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


def _contrasts(found: "Sequence[Contrasts]") -> "Table":
    rows = [(f"{one.n:,}", *map(_rate, (one.told_apart, one.both_blocked, one.both_passed))) for one in found]
    title = f"{found[0].benchmark}: safe prompts and their unsafe twins"
    return _table(("pairs", "told apart %", "both blocked %", "both let through %"), rows, title)


def _calibrated(title: str, found: "Sequence[Calibrated]") -> "Table":
    rows = [(one.value, f"{one.n:,}", _interval(one.ece), _interval(one.brier)) for one in found[:MOST_GROUPS]]
    if len(found) > MOST_GROUPS:
        rows.append((f"and {len(found) - MOST_GROUPS:,} more", "", "", ""))
    return _table((found[0].by, "rows", "ECE", "Brier"), rows, title)


def _notes(found: "Sequence[Robustness]") -> Iterator[str]:
    flips = [one for each in found for one in each.flips]
    if flips:
        yield (
            "flipped: share of the changed rows whose verdict is another, with its 95 % interval, and the number that "
            "are now let through (unharmful, compliance) or blocked; p: of the change in F1, by exchanging the answers "
            "prompt by prompt, adjusted by Holm over the perturbations."
        )
    if any(one.family == "control" for one in flips):
        yield "again: the same texts with other draws of the traces; what flips there, no perturbation did."
    if unparsed := sum(one.unparsed for one in flips):
        yield f"{unparsed:,} answers on perturbed texts cannot be read: they count as wrong in F1, and as no flip."
    # A row is counted under each of its tasks.
    most = {(one.benchmark, one.perturbation): one for one in sorted(flips, key=lambda one: one.cut)}.values()
    if cut := sum(one.cut for one in most):
        yield f"{cut:,} of {sum(one.changed for one in most):,} perturbed texts were cut to the guard's limit."
    if any(each.pairs for each in found):
        yield "attack success: rewrites that are let through, of those whose plain text is blocked."
    if left := sum(
        sum(pair.unparsed for pair in each.pairs) + sum(twin.unparsed for twin in each.contrasts) for each in found
    ):
        yield f"{left:,} pairs have an answer that cannot be read and are left out."


def _rate(one: "Rate", *, with_interval: bool = True) -> str:
    if one.rate is None or one.low is None or one.high is None:
        return "-"
    ends = f" ({100 * one.low:.1f}-{100 * one.high:.1f})" if with_interval else " %"
    return f"{100 * one.rate:.1f}{ends}"


def _change(one: "Flips") -> str:
    """Return the change in F1, in points, with its interval."""
    f1 = one.paired.f1
    if f1.difference is None:
        return "-"
    ends = "" if f1.low is None or f1.high is None else f" ({100 * f1.low:+.1f}, {100 * f1.high:+.1f})"
    return f"{100 * f1.difference:+.1f}{ends}"


def _interval(one: "Interval") -> str:
    if one.value is None:
        return "-"
    return f"{one.value:.3f}" + ("" if one.low is None or one.high is None else f" ({one.low:.3f}-{one.high:.3f})")


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], title: str, told: str = "") -> "Table":
    """Build a table whose first column is words and whose others are figures, close enough for 80 columns."""
    from rich.table import Table

    from wizloop.console.tables import plain

    table = Table(
        box=None, pad_edge=False, collapse_padding=True, header_style="bold", title=plain(title), title_justify="left"
    )
    if told:
        table.caption, table.caption_justify = plain(told, 1000), "left"
    for at, head in enumerate(heads):
        table.add_column(plain(head), justify="right" if at else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(plain, row))
    return table
