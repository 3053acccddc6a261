"""Measure the categories of a lossy export again, at thresholds of its own, as its verdicts are."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from wizloop.loop.context import Context
from wizloop.loop.guard.categories import Probabilities
from wizloop.loop.guard.judge import Judge
from wizloop.loop.measures.category_scores import thresholds
from wizloop.loop.phases.category_measures import figures_of, held, names_of, stored_names, truth_of
from wizloop.store import models
from wizloop.store.samples import Sample

Sets = Mapping[str, Sequence[Sample]]


class Answered(NamedTuple):
    """What an export said about a sample before it is asked for categories."""

    verdict: Mapping[str, str | None]
    traces: Sequence[str]


class Categories(NamedTuple):
    """The categories of an export, measured; empty for a guard without."""

    thresholds: Mapping[str, float]
    figures: Mapping[str, Any]
    """By benchmark."""
    failed: Sequence[str]
    """The gate's bounds on categories that it breaks, in words."""


NONE = Categories({}, {}, ())


def batches(ctx: Context, samples: Sequence[Sample]) -> int:
    """Return how often `measure` reports."""
    return len(list(ctx.batches(samples, ctx.recipe.classify.batch))) if ctx.renderer.categories else 0


def measure(
    ctx: Context,
    model: models.Model,
    exported: Judge,
    sets: Sets,
    said: Mapping[int, Answered],
    report: Callable[[str], None],
) -> Categories:
    """Ask an export for categories, learn thresholds on dev, score every set, and compare with its model on dev."""
    if not (names := ctx.renderer.categories):
        return NONE
    p = _asked(ctx, exported, [one for rows in sets.values() for one in rows], said, report)
    truth = {name: truth_of(ctx, rows) for name, rows in sets.items()}
    dev = truth["dev"]
    learned = thresholds(names, list(dev.values()), [p[one] for one in dev])
    ours = {one: names_of(ctx, p[one], learned) for one in dev}
    checks, _ = held(ctx, ctx.recipe.gate, sets["dev"], dev, stored_names(ctx, model, dev), ours)
    figures = {name: figures_of(ctx, name, rows, truth[name], p, learned) for name, rows in sets.items() if truth[name]}
    return Categories(learned, figures, [reason for passed, reason in checks if not passed])


def _asked(
    ctx: Context,
    exported: Judge,
    samples: Sequence[Sample],
    said: Mapping[int, Answered],
    report: Callable[[str], None],
) -> dict[int, Probabilities]:
    found: dict[int, Probabilities] = {}
    for batch in ctx.batches(samples, ctx.recipe.classify.batch):
        report(f"asking the export for categories: {len(found):,} of {len(samples):,} samples")
        before = [said[one.id] for one in batch]
        asked = exported.categories_of(batch, [one.verdict for one in before], [one.traces for one in before])
        found |= {one.id: p for one, p in zip(batch, asked, strict=True)}
    return found
