"""Robustness in tables of text, for a terminal and a report: flips, pairs, and calibration apart. Pure."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from wizloop.loop.evaluation.flips import Flips
from wizloop.loop.evaluation.report import Section
from wizloop.loop.evaluation.rewrites import Contrasts, Pairs
from wizloop.loop.evaluation.robustness import Calibrated, Robustness, to_json
from wizloop.loop.evaluation.scoring import Interval, Rate


class Cells(NamedTuple):
    """A table; the first column is words, the others are figures."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    told: str = ""
    """What the table shows, in words."""
    long: bool = False
    """Whether a terminal has room for its first rows only."""


def in_report(found: Sequence[Robustness]) -> Section:
    """Return what was found as a report shows it."""
    every = [table for one in found for table in tables(one)]
    told = [f"{one.title}: {one.told}." for one in every if one.told]
    return Section(to_json(found), [(one.title, one.heads, one.rows) for one in every], [*told, *notes(found)])


def tables(one: Robustness) -> Iterator[Cells]:
    """Yield the tables of a benchmark: flips by task, pairs, and calibration apart."""
    for (benchmark, task), flips in groupby(one.flips, key=lambda each: (each.benchmark, each.task)):
        yield _flips(f"{benchmark}, {task}", list(flips))
    if one.pairs:
        yield _pairs(one.pairs)
    if one.contrasts:
        yield _contrasts(one.contrasts)
    for (benchmark, task, by), apart in groupby(one.calibrated, key=lambda each: (each.benchmark, each.task, each.by)):
        yield _calibrated(f"{benchmark}, {task}: calibration by {by}", list(apart))


def _flips(title: str, found: Sequence[Flips]) -> Cells:
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
    return Cells(title, heads, rows, told)


def _concluded(found: Sequence[Flips]) -> str:
    """Say of which perturbations the guard is worse or better, and of which that cannot be told."""
    named: dict[str, list[str]] = {}
    for one in found:
        named.setdefault(one.paired.conclusion, []).append(one.perturbation)
    return "; ".join(f"{said}: {', '.join(names)}" for said, names in named.items())


def _pairs(found: Sequence[Pairs]) -> Cells:
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
    return Cells(f"{found[0].benchmark}: rewrites that the data has", heads, rows)


def _contrasts(found: Sequence[Contrasts]) -> Cells:
    rows = [(f"{one.n:,}", *map(_rate, (one.told_apart, one.both_blocked, one.both_passed))) for one in found]
    title = f"{found[0].benchmark}: safe prompts and their unsafe twins"
    return Cells(title, ("pairs", "told apart %", "both blocked %", "both let through %"), rows)


def _calibrated(title: str, found: Sequence[Calibrated]) -> Cells:
    rows = [(one.value, f"{one.n:,}", _interval(one.ece), _interval(one.brier)) for one in found]
    return Cells(title, (found[0].by, "rows", "ECE", "Brier"), rows, long=True)


def notes(found: Sequence[Robustness]) -> Iterator[str]:
    """Yield what explains the tables, and what was left out."""
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


def _rate(one: Rate, *, with_interval: bool = True) -> str:
    if one.rate is None or one.low is None or one.high is None:
        return "-"
    ends = f" ({100 * one.low:.1f}-{100 * one.high:.1f})" if with_interval else " %"
    return f"{100 * one.rate:.1f}{ends}"


def _change(one: Flips) -> str:
    """Return the change in F1, in points, with its interval."""
    f1 = one.paired.f1
    if f1.difference is None:
        return "-"
    ends = "" if f1.low is None or f1.high is None else f" ({100 * f1.low:+.1f}, {100 * f1.high:+.1f})"
    return f"{100 * f1.difference:+.1f}{ends}"


def _interval(one: Interval) -> str:
    if one.value is None:
        return "-"
    return f"{one.value:.3f}" + ("" if one.low is None or one.high is None else f" ({one.low:.3f}-{one.high:.3f})")


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"
