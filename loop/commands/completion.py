"""Shell completion of recipes, their sections, and workspaces; click calls it while a command line is typed."""

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import click
from click.shell_completion import CompletionItem

Items = list[CompletionItem[str]]


def recipe_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Return matching shipped recipes and TOML files of this folder; if none match, let the shell complete a file."""
    from wizloop.recipes.shipped import shipped

    own = sorted(path.name for path in Path().glob("*.toml"))
    return _matching(incomplete, chain(shipped(), own), "file")


def recipe_sections(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Return matching sections of a recipe."""
    from wizloop.recipes import reference, schema

    sections = (key.name for key in reference.every_key(schema.Recipe) if key.default is None)
    return [CompletionItem(name) for name in sections if name.startswith(incomplete)]


def workspaces(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Return matching workspaces in the folder typed so far; if none match, let the shell complete a folder."""
    from wizloop.store.sqlite import DB_NAME

    folder = incomplete[: incomplete.rfind("/") + 1]
    found = sorted(f"{folder}{path.parent.name}" for path in Path(folder).glob(f"*/{DB_NAME}"))
    return _matching(incomplete, found, "dir")


def _matching(incomplete: str, words: Iterable[str], otherwise: str) -> Items:
    found = [CompletionItem(word) for word in words if word.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type=otherwise)]
