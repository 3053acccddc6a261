"""Choose a file's format: the one that was named, a column mapping, or the one that its first record shows."""

from difflib import get_close_matches

from wizloop import plugins
from wizloop.loop.data import formats_plugins
from wizloop.loop.data.category_columns import is_field
from wizloop.loop.data.formats import ASSUMED, TEXT_COLUMNS, Constant, Format, text_column
from wizloop.loop.data.formats_benchmarks import BENCHMARK_SETS
from wizloop.loop.data.formats_columns import MAPPING_KEYS, column_of, columns_format, has_known_label, mapped_format
from wizloop.loop.data.formats_conversations import conversation_columns, conversations_format, with_conversations
from wizloop.loop.data.formats_guards import GUARD_SETS
from wizloop.loop.data.formats_injections import INJECTION_SETS
from wizloop.loop.data.formats_instructions import INSTRUCTION_SETS
from wizloop.loop.data.formats_pairs import PAIR_SETS
from wizloop.loop.data.formats_prompts import PROMPT_SETS
from wizloop.loop.data.formats_scores import SCORE_SETS
from wizloop.loop.data.formats_traces import TRACE_SETS
from wizloop.loop.data.records import ImportRefused, Record
from wizloop.loop.words import Task
from wizloop.recipes.sections import Data

KNOWN: tuple[Format, ...] = (
    *TRACE_SETS,
    *BENCHMARK_SETS,
    *PAIR_SETS,
    *PROMPT_SETS,
    *SCORE_SETS,
    *INJECTION_SETS,
    *GUARD_SETS,
    *INSTRUCTION_SETS,
)
"""The first that fits a file's first record is used."""
NAMES = (*(known.name for known in KNOWN), "conversations", "columns")
"""The built-in formats."""


def choose_format(data: Data, first: Record, name: str) -> Format:
    """Return the format of a file called `name` whose first record is `first`. Raises ImportRefused."""
    relabeled = bool(data.label)
    if data.map:
        mapping = _mapping(data, first)
        mapped = mapped_format(mapping, data.task, first, relabeled=relabeled)
        return with_conversations(mapped, mapping, data.task, first)
    if data.format is None:
        if (shown := recognize(first, name, data.task, relabeled=relabeled)) is None:
            raise ImportRefused(f"{data.path}: {_no_format(first)}")
        return shown
    fmt = find_format(data.format, first, name, data.task, relabeled=relabeled)
    if fmt is None:
        near = get_close_matches(data.format, all_names(), n=1)
        hint = f"did you mean {near[0]!r}? If not, choose" if near else "choose"
        raise ImportRefused(f"{data.path}: there is no format {data.format!r}; {hint} one of {', '.join(all_names())}")
    if missing := fmt.columns - first.keys():
        raise ImportRefused(f"{data.path}: no column {min(missing)!r}, which the format {fmt.name!r} needs")
    return fmt


def recognize(record: Record, name: str, task: Task, *, relabeled: bool = False) -> Format | None:
    """Return the format that a file's first record and name show; None for neither a known shape nor a text column."""
    built_in = next((known for known in KNOWN if known.fits(record, name)), None)
    if built_in is not None and not (_is_assumed(built_in) and has_known_label(record, task)):
        return built_in
    if built_in is not None and isinstance(built_in.read, Constant):
        # The layout of a known set, with labels of its own: these count.
        return mapped_format({"prompt": built_in.read.prompt}, task, record, relabeled=relabeled)
    if installed := next((known for known in formats_plugins.every(taken) if known.fits(record, name)), None):
        return installed
    if (talking := conversations_format(task, record, relabeled=relabeled)) is not None:
        return talking
    return columns_format(task, record, relabeled=relabeled) if text_column(record) is not None else None


def _is_assumed(known: Format) -> bool:
    """Return whether a format gives labels that no word of the file says."""
    return ASSUMED in known.told


def find_format(asked: str, record: Record, name: str, task: Task, *, relabeled: bool = False) -> Format | None:
    """Return the format whose name is `asked` or begins with it; of several the first that fits the record and file.

    Case, spaces and hyphens are ignored. None if there is none.
    """
    wanted = _plain(asked)
    if wanted == "columns":
        return columns_format(task, record, relabeled=relabeled)
    if wanted == "conversations":
        return conversations_format(task, record, relabeled=relabeled)
    named = [known for known in KNOWN if wanted and _plain(known.name).startswith(wanted)]
    exact = [known for known in named if _plain(known.name) == wanted and known.columns <= record.keys()]
    fitting = [known for known in named if known.fits(record, name)]
    return next(iter([*exact, *fitting, *named]), None) or formats_plugins.named(asked, taken)


def taken(name: str) -> bool:
    """Return whether a name means a built-in format, so that no plugin may have it."""
    return any(_plain(known).startswith(_plain(name)) for known in NAMES)


def all_names() -> list[str]:
    """Return the names of all formats, built in and installed."""
    return [*NAMES, *plugins.installed("format")]


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def field_and_column(field: str, column: str) -> tuple[str, str]:
    """Return a mapping's field and column, which may be written the other way round."""
    if field in MAPPING_KEYS:
        return field, column
    return (column, field) if column in MAPPING_KEYS or (is_field(column) and not is_field(field)) else (field, column)


def _mapping(data: Data, first: Record) -> dict[str, str]:
    """Return the columns by field. Raises ImportRefused."""
    mapping = dict(field_and_column(*pair) for pair in data.map.items())
    if "prompt" not in mapping:
        mapping = {**conversation_columns(first), **mapping}
    if unknown := sorted(set(mapping) - set(MAPPING_KEYS)):
        raise ImportRefused(f"{data.path}: the mapping names {unknown[0]!r}; choose one of {', '.join(MAPPING_KEYS)}")
    if "prompt" not in mapping and text_column(first) in (None, *mapping.values()):
        raise ImportRefused(f"{data.path}: the mapping has no column for the prompt")
    columns = [column_of(column, first)[0] for column in mapping.values() if not column.startswith("=")]
    if absent := [column for column in columns if column not in first]:
        raise ImportRefused(
            f"{data.path}: no column {absent[0]!r}, which the mapping names; there are {', '.join(first)}"
        )
    return mapping


def _no_format(first: Record) -> str:
    """Return why no format fits, and what to do."""
    listed = ", ".join(" ".join(column.split()) for column in list(first)[:20])
    return (
        f"unknown columns ({listed}), none of them {', '.join(TEXT_COLUMNS)}; map the one with the prompt: "
        "--map COLUMN=prompt"
    )
