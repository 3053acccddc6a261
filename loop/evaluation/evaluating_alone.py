"""A model asked about labelled files as a recipe says, with no run: how a published guard is measured as it is.

What a run would have on record lies in a scratch workspace, which is gone afterwards.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from wizloop.loop.context import Context
from wizloop.loop.data.containers import ImportRefused
from wizloop.loop.evaluation.evaluating import of_folder
from wizloop.loop.guard import instructing
from wizloop.loop.phases import using
from wizloop.recipes import schema
from wizloop.recipes.schema import Recipe
from wizloop.recipes.sections import Data
from wizloop.store import control, models, steps
from wizloop.store.db import Store


@contextmanager
def asking(
    recipe: Recipe, model: Path | None, files: Sequence[str], now: datetime
) -> Iterator[tuple[Context, models.Model]]:
    """A context, and the model in a folder or of the hub, or the recipe's base where none is named.

    An instruction that is a column's is that of these files. Raises ImportRefused.
    """
    if model is None and recipe.guard.base == "tiny":
        raise ImportRefused(f"{recipe.name}: its guard is made from nothing in a run: name a model with --model")
    missing = [name for name in files if not Path(name).is_file()]
    if missing or not files:
        named = missing[0] if missing else "no file"
        raise ImportRefused(f"{named}: without a run only labelled files can be measured: name one with --benchmark")
    with TemporaryDirectory(prefix="wizloop-") as scratch, Store.create(Path(scratch)) as store:
        told = instructing.read(_on(recipe, files))
        with store.write() as db:
            control.create_run(
                db,
                name=recipe.name,
                recipe_json=schema.canonical_json(recipe),
                recipe_hash=schema.recipe_hash(recipe),
                seed=recipe.seed,
                cap_micro=None,
                until=None,
                rounds_wanted=0,
                now=now,
            )
            steps.begin_round(db, 0, None, now)
            steps.merge_record(db, 0, {"instruction": told})
        ctx = using.context(store, Path(scratch), recipe, "evaluate", now)
        alone, found = of_folder(ctx, Path(recipe.guard.base) if model is None else model)
        # The recipe's own base is asked where the recipe says, on a server perhaps.
        yield (ctx if model is None else alone), found


def _on(recipe: Recipe, files: Sequence[str]) -> Recipe:
    return recipe.model_copy(update={"data": tuple(Data(path=name, split="test") for name in files)})
