"""The answers that a run's model gave on dev and test, as they were stored, beside the labels. Asks no guard."""

from collections.abc import Sequence

from wizloop.loop.context import recipe_of
from wizloop.loop.evaluation.answered_rows import AnsweredRow, answered_row, of_sample
from wizloop.loop.phases import model_roles
from wizloop.loop.phases.evaluate import by_benchmark
from wizloop.loop.stored_samples import labels_of, usable
from wizloop.store import errors, models, predictions
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
            answered_row(name, of_sample(one), known[one.id])
            for one in sets[name]
            if one.id in known and labels_of(one)
        ]
    return rows
