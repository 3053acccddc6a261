"""The tasks and label words that a command's files are read by: an export's, a recipe's, or the workspace's run's."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from wizloop.loop.commands.common import report_errors
from wizloop.loop.words import DEFAULT, Declaration

if TYPE_CHECKING:
    from wizloop.recipes.schema import Recipe


def of_recipe(named: Any, workspace: Path) -> Declaration:
    """Return what a recipe, loaded or by name or path, declares; without one, what the workspace's run does."""
    from wizloop.recipes import schema

    if named is None:
        return of_workspace(workspace)
    with report_errors(schema.RecipeError):
        recipe: Recipe = schema.load(named) if isinstance(named, str | Path) else named
    return Declaration.of(recipe.tasks)


def of_workspace(workspace: Path) -> Declaration:
    """Return what the workspace's run declares; the default without a workspace or a run."""
    from wizloop.loop.context import declared_of
    from wizloop.store.db import Store
    from wizloop.store.sqlite import DB_NAME

    if not (workspace / DB_NAME).is_file():
        return DEFAULT
    with report_errors(), Store.open(workspace, readonly=True) as store, store.read() as db:
        return declared_of(db)


def of_export(folder: Path) -> Declaration:
    """Return what an exported guard declares; the default for a folder that is no export, which is refused later."""
    from wizloop.loop.guard import guard_file

    try:
        return Declaration.of(guard_file.read(folder).tasks)
    except ValueError:
        return DEFAULT
