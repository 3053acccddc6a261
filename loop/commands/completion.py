"""What a shell offers when a recipe or a workspace is completed; click asks for it while the command line is typed."""

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import click
from click.shell_completion import CompletionItem

Items = list[CompletionItem[str]]


def recipe_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Return the shipped recipes and the TOML files here that begin so, or else have the shell complete a file."""
    from wizloop.recipes.shipped import shipped

    own = sorted(path.name for path in Path().glob("*.toml"))
    return _beginning(incomplete, chain(shipped(), own)) or [CompletionItem(incomplete, type="file")]


def workspaces(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Return the workspaces in the folder typed so far that begin so, or else have the shell complete a folder."""
    return _beginning(incomplete, _workspaces_in(incomplete)) or [CompletionItem(incomplete, type="dir")]


def _beginning(incomplete: str, words: Iterable[str]) -> Items:
    return [CompletionItem(word) for word in words if word.startswith(incomplete)]


def _workspaces_in(typed: str) -> list[str]:
    from wizloop.store.sqlite import DB_NAME

    folder = typed[: typed.rfind("/") + 1]
    return sorted(f"{folder}{path.parent.name}" for path in Path(folder).glob(f"*/{DB_NAME}"))
