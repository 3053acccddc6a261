"""The answers that a run's model gave on dev and test, as they were stored, beside the labels. Asks no guard."""

from collections.abc import Sequence

from wizloop.loop.context import recipe_of
from wizloop.loop.evaluation import against
from wizloop.loop.evaluation.answered_rows import AnsweredRow, answered_row, of_sample
from wizloop.loop.phases import model_roles
from wizloop.loop.phases.evaluate import by_benchmark
from wizloop.loop.stored_samples import labels_of, usable
from wizloop.loop.words import Declaration
from wizloop.store import errors, models, predictions, steps
from wizloop.store.db import Store


def model_of(store: Store, round: int | None) -> models.Model:
    """Return a round's challenger, or by default the champion, or the base before there is one.

    Raises errors.NotFound for a round without a challenger.
    """
    with store.read() as db:
        found = model_roles.standing(db) if round is None else model_roles.challenger(db, round)
    if found is None:
        raise errors.NotFound(f"round {round} has no challenger (see `wizloop rounds`)")
    return found


def answered(store: Store, model: models.Model, names: Sequence[str]) -> list[AnsweredRow]:
    """Return the labeled rows of the named sets, by default of dev and every test set, that a model answered.

    Raises errors.NotFound for a name that no set has.
    """
    with store.read() as db:
        recipe = recipe_of(db)
    declared = Declaration.of(recipe.tasks)
    sets = {"dev": list(usable(store, "dev")), **by_benchmark(store, recipe, list(usable(store, "test")))}
    if unknown := [name for name in names if name not in sets]:
        raise errors.NotFound(f"{unknown[0]}: no such set; there are {', '.join(sets)}")
    rows: list[AnsweredRow] = []
    for name in names or sets:
        with store.read() as db:
            known = {
                one.sample_id: one for one in predictions.for_samples(db, model.id, [one.id for one in sets[name]])
            }
        rows += [
            answered_row(name, of_sample(one, declared), known[one.id], declared=declared)
            for one in sets[name]
            if one.id in known and labels_of(one, declared)
        ]
    return rows


def rounds_against(store: Store, which: str) -> list[against.Line]:
    """Compare the guard of every round, base and challengers, with that of `which`: base, or a round's number.

    Holm is over all of these comparisons. Raises errors.NotFound where that guard or its stored answers are missing.
    """
    guards = _guards(store)
    held = which if which == model_roles.BASE else f"round {which}"
    model = guards.get(held)
    if model is None:
        raise errors.NotFound(f"--against {which}: give base, or a round with a challenger (see `wizloop rounds`)")
    theirs = answered(store, model, ())
    if not theirs:
        raise errors.NotFound(f"--against {which}: no answers of it on dev or test are stored, so nothing is compared")
    found = [
        against.Sides(benchmark, name, held, ours, [row for row in theirs if row.benchmark == benchmark])
        for name, other in guards.items()
        if name != held
        for benchmark, ours in _by_benchmark(answered(store, other, ())).items()
    ]
    return against.lines(found)


def _guards(store: Store) -> dict[str, models.Model]:
    """Return the guards that `wizloop rounds` shows, by the name of their round."""
    with store.read() as db:
        made = {f"round {each.number}": model_roles.challenger(db, each.number) for each in steps.rounds(db)}
        named = {model_roles.BASE: models.by_name(db, model_roles.BASE), **made}
    return {name: model for name, model in named.items() if model is not None}


def _by_benchmark(rows: Sequence[AnsweredRow]) -> dict[str, list[AnsweredRow]]:
    return {
        name: [one for one in rows if one.benchmark == name] for name in dict.fromkeys(one.benchmark for one in rows)
    }
