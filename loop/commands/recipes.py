"""`recipes`: the shipped recipes, one to copy, and every key that a recipe may have."""

import re
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from wizloop import regular_file
from wizloop.loop.commands.common import put, refuse, report_errors, with_json
from wizloop.loop.commands.common import show as print_line
from wizloop.loop.commands.completion import recipe_names, recipe_sections

if TYPE_CHECKING:
    from wizloop.recipes.reference import Key

_WIDEST = 90
"""Columns of a key with its words, beyond which the words have lines of their own."""
_INDENT = "    "


@click.group(invoke_without_command=True, short_help="List the recipes; print one, or every key.")
@with_json
@click.pass_context
def recipes(ctx: click.Context, as_json: bool) -> None:
    """List the shipped recipes, each with its first line."""
    if ctx.invoked_subcommand is not None:
        return
    from wizloop.recipes.shipped import shipped

    first_lines = {name: path.read_text(encoding="utf-8").partition("\n")[0] for name, path in shipped().items()}
    found = {name: line.removeprefix("#").strip() for name, line in first_lines.items()}
    if as_json:
        put(found)
        return
    for name, about in found.items():
        print_line(f"{name:20} {about}")


@recipes.command(short_help="Print a recipe to copy.")
@click.argument("name", shell_complete=recipe_names)
@click.option("--imported", is_flag=True, help="Leave out [[data]]: use what `wizloop import` put into the workspace.")
@with_json
def show(name: str, imported: bool, as_json: bool) -> None:
    """Print a recipe to copy: `wizloop recipes show demo > my.toml`.

    NAME is a shipped recipe's name or a file. With --json, keys that the recipe omits are included with their defaults.
    """
    from wizloop.recipes import schema

    with report_errors(schema.RecipeError):
        recipe = schema.load(name)
        if as_json:
            put(recipe.model_dump(mode="json"))
        else:
            text = regular_file.read_text(schema.find(name)).rstrip("\n")
            print_line(_on_imported(text) if imported else text)


@recipes.command(short_help="Print every key, its default and its meaning.")
@click.argument("section", required=False, shell_complete=recipe_sections)
@with_json
def keys(section: str | None, as_json: bool) -> None:
    """Print every key that a recipe may have: its default, its allowed words and its meaning.

    SECTION prints one section, for example guard or teacher.claude. A key that is omitted and has no default is None,
    for which TOML has no word.
    """
    from wizloop.recipes import reference, schema

    found = [
        key for key in reference.every_key(schema.Recipe) if section is None or f"{key.name}.".startswith(f"{section}.")
    ]
    if not found:
        refuse(f"{section}: no such section or key: `wizloop recipes keys` lists them all")
    if as_json:
        put({"keys": [asdict(key) for key in found]})
        return
    for key in found:
        for line in _lines(key):
            print_line(line)


def _on_imported(text: str) -> str:
    """Return a recipe's TOML without its [[data]] tables and with the workspace as its source."""
    without = re.sub(r"(?m)^(#.*\n)*\[\[data\]\]\n(?:(?!\[).*\n)*", "", text)
    without = re.sub(r"(?m)^source = .*\n", "", without)
    return re.sub(r"(?m)^(name = .*\n)", r'\1source = "imported"\n', without, count=1)


def _lines(key: "Key") -> list[str]:
    """Return a key or a section's head, with its meaning below, in 80 columns."""
    import textwrap

    from wizloop.recipes.reference import LEFT_OUT, NEEDED

    about = textwrap.wrap(key.about, 80, initial_indent=_INDENT, subsequent_indent=_INDENT)
    if key.default is None:
        head = f"[[{key.name}]]" if key.name == "data" else f"[{key.name}]"
        return ["", head, *about]
    words = f"({', '.join(key.words)})" if key.words else ""
    default = f" ({key.default})" if key.default in (NEEDED, LEFT_OUT) else f" = {key.default}"
    head = f"{key.name}{default}"
    if len(head) + len(words) > _WIDEST:
        return [head, *textwrap.wrap(words, 80, initial_indent=_INDENT, subsequent_indent=_INDENT), *about]
    return [f"{head}   {words}".rstrip(), *about]
