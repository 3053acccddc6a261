"""Options that say how a file of samples is read, the same for every command that reads one."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from wizloop.loop.commands.common import refuse

if TYPE_CHECKING:
    from wizloop.recipes.sections import Data

_OPTIONS = (
    click.option(
        "--map",
        multiple=True,
        metavar="COLUMN=FIELD",
        help="Use a column as the prompt, response, label, ...; 'not COLUMN' for the opposite of its labels.",
    ),
    click.option(
        "--label",
        multiple=True,
        metavar="WORD=LABEL",
        help="Read a label word as harmful, unharmful, refusal, compliance or none.",
    ),
    click.option(
        "--category", multiple=True, metavar="WORD=NAME", help="Read a word for a category, such as S1, as this name."
    ),
    click.option("--format", help="Name of the file's format, if it is not detected."),
    click.option(
        "--turns",
        type=click.Choice(["first", "last", "all", "each"]),
        help="Turns of a conversation to take: the first and its answer (the default), the last, all as one sample, "
        "or each as its own.",
    ),
)


def with_reading(command: Callable[..., object]) -> Callable[..., object]:
    """Add the options --map, --label, --category, --format and --turns."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def reading(
    map: Sequence[str],
    label: Sequence[str],
    category: Sequence[str],
    format: str | None,
    turns: str | None,
    **others: Any,
) -> dict[str, Any]:
    """Return the options as settings of a recipe's [[data]]; refuse what cannot be one."""
    settings = {"map": _mapping(map), "label": labels_of(label), "format": format, **others}
    if category:
        settings["category"] = _categories(category)
    if turns is not None:
        settings["turns"] = turns
    data_of({"path": "-", "split": "pool", **settings})
    return settings


def data_of(settings: dict[str, Any]) -> "Data":
    """Validate settings as a recipe's [[data]] section."""
    from pydantic import ValidationError

    from wizloop.recipes import sections

    try:
        return sections.Data.model_validate(settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        refuse(f"{f'--{where}: ' if where else ''}{first['msg'].removeprefix('Value error, ')}")


def _mapping(pairs: Sequence[str]) -> dict[str, str]:
    """Return {field: column}; accepts both COLUMN=FIELD and FIELD=COLUMN."""
    from wizloop.loop.data.format_choice import field_and_column

    mapping: dict[str, str] = {}
    for pair in pairs:
        column, equals, field = pair.partition("=")
        if not equals or not column or not field:
            refuse(f"--map {pair}: write it as COLUMN=FIELD, for example question=prompt")
        field, column = field_and_column(field, column)
        if field in mapping:
            refuse(f"--map {pair}: the field {field} already has a column")
        mapping[field] = column
    return mapping


def _categories(pairs: Sequence[str]) -> dict[str, str]:
    """Return {word: name of the category}."""
    named: dict[str, str] = {}
    for pair in pairs:
        word, equals, name = pair.partition("=")
        if not equals or not word.strip() or not name.strip():
            refuse(f"--category {pair}: write it as WORD=NAME, for example S1=violence")
        if named.setdefault(word, name.strip()) != name.strip():
            refuse(f"--category {pair}: the word {word} already has a name")
    return named


def labels_of(pairs: Sequence[str]) -> dict[str, str]:
    """Return {word: label}; accepts both WORD=LABEL and LABEL=WORD. The reader of the rows knows the labels."""
    from wizloop.recipes.tasks import Tasks

    labels, known = dict[str, str](), (*Tasks().words(), "none")
    for pair in pairs:
        word, equals, label = pair.rpartition("=")
        if label not in known and word in known:
            word, label = label, word
        if not equals or not word or not label:
            refuse(f"--label {pair}: write it as WORD=LABEL, with one of {', '.join(known)}: malicious=harmful")
        if labels.setdefault(word, label) != label:
            refuse(f"--label {pair}: the word {word} already has a label")
    return labels
