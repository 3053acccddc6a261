"""Ask the models of a round for categories, learn thresholds on dev, and score them: nothing without declared names.

Asked after everything else: no verdict, probability or selection depends on it. The pool is not asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from wizloop.loop.context import Context
from wizloop.loop.data.similarity import normalize
from wizloop.loop.guard.categories import Probabilities, chosen
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.measures.category_scores import compare_categories, score_categories, thresholds
from wizloop.loop.measures.promotion import ROUNDING, Difference, gap
from wizloop.loop.phases import predict
from wizloop.loop.phases.taught_categories import true_of, unknown_words
from wizloop.loop.stored_samples import labels_of
from wizloop.recipes.sections import Gate
from wizloop.store import categories, models, predictions
from wizloop.store.samples import Sample

Truth = dict[int, frozenset[str]]
Named = Mapping[int, frozenset[str] | None]
"""The categories that a guard names, by sample; None where they cannot be read."""


def measure(
    ctx: Context, model: models.Model, known: Calibration, sets: Mapping[str, Sequence[Sample]]
) -> dict[str, Any]:
    """Return {"categories": {benchmark: figures}} of a model that `known` calibrates, and store its thresholds with it.

    Empty for a guard without categories. A set without a labeled row has no figures.
    """
    names = ctx.renderer.categories
    if not names:
        return {}
    ask_missing(ctx, replace(model, calibration_json=known.to_json()), [one for rows in sets.values() for one in rows])
    truth = {name: truth_of(ctx, rows) for name, rows in sets.items()}
    on_dev = _stored(ctx, model, truth["dev"])
    learned = thresholds(names, [truth["dev"][one] for one in on_dev], list(on_dev.values()))
    with ctx.store.write() as db:
        models.set_calibration(db, model.id, replace(known, categories=learned).to_json())
    return {
        "categories": {
            name: figures_of(ctx, name, rows, truth[name], _stored(ctx, model, truth[name]), learned)
            for name, rows in sets.items()
            if truth[name]
        }
    }


def ask_missing(ctx: Context, model: models.Model, samples: Sequence[Sample]) -> None:
    """Ask a model for the categories of the samples that it has judged and was not asked about, in batches."""
    if not ctx.renderer.categories:
        return
    done = 0
    for batch in ctx.batches(samples, ctx.recipe.classify.batch):
        ctx.progress(done, len(samples))
        judged = predict.stored(ctx, model, batch)
        with ctx.store.read() as db:
            known = categories.predicted(db, model.id, [one.id for one in batch])
            traces = predictions.traces_of(db, model.id, [one.id for one in batch])
        missing = [one for one in batch if one.id in judged and one.id not in known]
        if missing:
            texts = {one.id: [trace.text for trace in traces if trace.sample_id == one.id] for one in missing}
            verdicts = [judged[one.id].verdict for one in missing]
            found = ctx.judge(model).categories_of(missing, verdicts, list(texts.values()))
            with ctx.store.write() as db:
                categories.predict(db, model.id, dict(zip(texts, found, strict=True)))
        done += len(batch)


def truth_of(ctx: Context, samples: Sequence[Sample]) -> Truth:
    """Return the declared categories of each sample whose labels say which it is in."""
    with ctx.store.read() as db:
        labeled = categories.labels(db, [one.id for one in samples])
    found = {one.id: true_of(ctx.renderer, labels_of(one, ctx.declared), labeled.get(one.id)) for one in samples}
    return {one: frozenset(named) for one, named in found.items() if named is not None}


def tell_unknown(ctx: Context, samples: Sequence[Sample]) -> None:
    """Say which words for categories of these samples the recipe does not declare."""
    if ctx.renderer.categories:
        with ctx.store.read() as db:
            labeled = categories.labels(db, [one.id for one in samples])
        if listed := unknown_words(ctx.renderer.categories, labeled.values()):
            ctx.say(f"Categories of samples that guard.categories does not name are left out: {listed}.", "warn")


def compared(
    ctx: Context, bounds: Gate, standing: models.Model, challenger: models.Model, dev: Sequence[Sample]
) -> tuple[list[tuple[bool, str]], dict[str, Difference]]:
    """Return what the gate's bounds on categories say about a challenger, and the compared figures."""
    if not ctx.renderer.categories:
        return [], {}
    truth = truth_of(ctx, dev)
    return held(ctx, bounds, dev, truth, *(stored_names(ctx, each, truth) for each in (standing, challenger)))


def held(
    ctx: Context, bounds: Gate, dev: Sequence[Sample], truth: Truth, theirs: Named, ours: Named
) -> tuple[list[tuple[bool, str]], dict[str, Difference]]:
    """Return what the gate's bounds say about the categories that two guards name on dev, and the compared figures."""
    rows = [one for one in dev if one.id in truth and one.id in theirs and one.id in ours]
    found = compare_categories(
        ctx.renderer.categories,
        [truth[one.id] for one in rows],
        *([each[one.id] for one in rows] for each in (theirs, ours)),
        clusters=[normalize(one.prompt) for one in rows],
        rng=ctx.rng("gate", "categories"),
    )
    checks = [_check("macro-F1 over the categories", found["category_macro_f1"], bounds.category_macro_margin)]
    checks += [
        _check(f"F1 on the category {name!r}", found[f"category.{name}"], bounds.category_margin)
        for name in ctx.renderer.categories
    ]
    checks += [_check("the share of exactly right categories", found["category_exact"], bounds.category_exact_margin)]
    return [one for one in checks if one is not None], found


def stored_names(ctx: Context, model: models.Model, truth: Truth) -> Named:
    """Return the categories that a model's stored answers name, at its own thresholds."""
    learned = Calibration.from_json(model.calibration_json).categories
    return {one: names_of(ctx, p, learned) for one, p in _stored(ctx, model, truth).items()}


def names_of(ctx: Context, p: Probabilities, learned: Mapping[str, float]) -> frozenset[str] | None:
    """Return the categories from their thresholds on; None if nothing could be read."""
    named = chosen(p, learned, ctx.renderer.categories)
    return None if named is None else frozenset(named)


def _stored(ctx: Context, model: models.Model, truth: Truth) -> dict[int, Probabilities]:
    with ctx.store.read() as db:
        return dict(categories.predicted(db, model.id, list(truth)))


def figures_of(
    ctx: Context,
    benchmark: str,
    samples: Sequence[Sample],
    truth: Truth,
    found: Mapping[int, Probabilities],
    learned: Mapping[str, float],
) -> dict[str, Any]:
    """Return the figures of the samples of a benchmark whose categories are known, and were asked for."""
    rows = [one for one in samples if one.id in found and one.id in truth]
    return score_categories(
        ctx.renderer.categories,
        [truth[one.id] for one in rows],
        [names_of(ctx, found[one.id], learned) for one in rows],
        [found[one.id] for one in rows],
        clusters=[normalize(one.prompt) for one in rows],
        rng=ctx.rng("categories", benchmark),
    )


def _check(what: str, found: Difference, margin: float | None) -> tuple[bool, str] | None:
    """Return whether a figure is within its margin, and the figures in points; None without a margin."""
    if margin is None:
        return None
    if found.difference is None or found.champion is None or found.challenger is None:
        return True, f"{what} could not be compared on dev"
    said = f"{what} is {100 * found.challenger:.1f} against {100 * found.champion:.1f}, {gap(found)}"
    if found.difference >= -margin - ROUNDING:
        return True, said
    worse = "worse" if found.high is not None and found.high < 0 else "cannot be told from worse"
    return False, f"{said}; {worse} (the margin is {100 * margin:.1f})"
