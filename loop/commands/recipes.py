"""`recipes`: the shipped ones, one to copy, and every key that a recipe may have."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wizloop.loop.commands.common import put, refuse, sentences, with_json
from wizloop.loop.commands.completion import recipe_names

if TYPE_CHECKING:
    from wizloop.recipes.reference import Key

_INDENT = "    "


@click.group(invoke_without_command=True, short_help="The shipped recipes; one to copy; every key.")
@with_json
@click.pass_context
def recipes(ctx: click.Context, as_json: bool) -> None:
    """The shipped recipes, each with its first line."""
    if ctx.invoked_subcommand is not None:
        return
    from wizloop.recipes.shipped import shipped

    found = {name: _first_comment(path) for name, path in shipped().items()}
    if as_json:
        put(found)
        return
    for name, about in found.items():
        _show(f"{name:20} {about}")


@recipes.command(short_help="A recipe as it is written, to be copied.")
@click.argument("name", shell_complete=recipe_names)
@click.option("--imported", is_flag=True, help="Leave out [[data]]: use what `wizloop import` put into the workspace.")
@with_json
def show(name: str, imported: bool, as_json: bool) -> None:
    """Print a recipe to copy: `wizloop recipes show demo > my.toml`.

    NAME is a shipped recipe's name or a file. With --json every key that it leaves out is printed with its default.
    """
    from wizloop.recipes import schema

    with sentences(schema.RecipeError):
        recipe = schema.load(name)
        if as_json:
            put(recipe.model_dump(mode="json"))
        else:
            text = schema.find(name).read_text(encoding="utf-8").rstrip("\n")
            _show(_on_imported(text) if imported else text)


@recipes.command(short_help="Every key, its default, and what it means.")
@click.argument("section", required=False)
@with_json
def keys(section: str | None, as_json: bool) -> None:
    """Every key that a recipe may have: its default, the words it may be, what it means.

    SECTION shows those of one section alone, for example guard or teacher.claude. A key that is left out and has no
    default is None, for which TOML has no word.
    """
    from wizloop.recipes import reference, schema

    found = [
        key for key in reference.every_key(schema.Recipe) if section is None or f"{key.name}.".startswith(f"{section}.")
    ]
    if not found:
        refuse(f"{section}: no recipe has such a section or key: `wizloop recipes keys` lists them all")
    if as_json:
        put({"keys": [asdict(key) for key in found]})
        return
    for key in found:
        for line in _lines(key):
            _show(line)


def _on_imported(text: str) -> str:
    """Return a recipe's TOML without its [[data]] tables and with the workspace as its source."""
    without = re.sub(r"(?m)^(#.*\n)*\[\[data\]\]\n(?:(?!\[).*\n)*", "", text)
    without = re.sub(r"(?m)^source = .*\n", "", without)
    return re.sub(r"(?m)^(name = .*\n)", r'\1source = "imported"\n', without, count=1)


def _lines(key: "Key") -> list[str]:
    """A key, or a section's head, with what it means below it, in 80 columns."""
    import textwrap

    from wizloop.recipes.reference import LEFT_OUT, NEEDED

    about = textwrap.wrap(key.about, 80, initial_indent=_INDENT, subsequent_indent=_INDENT)
    if key.default is None:
        head = f"[[{key.name}]]" if key.name == "data" else f"[{key.name}]"
        return ["", head, *about]
    words = f"   ({', '.join(key.words)})" if key.words else ""
    stands = f" ({key.default})" if key.default in (NEEDED, LEFT_OUT) else f" = {key.default}"
    return [f"{key.name}{stands}{words}", *about]


def _first_comment(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip()


def _show(text: str) -> None:
    from wizloop.store.display import shown

    print(shown(text, 20_000))
