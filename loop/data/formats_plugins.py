"""Wrap import formats of other packages as built-in ones. See `wizloop.plugins`."""

from collections.abc import Callable
from functools import partial

from wizloop import plugins
from wizloop.loop.data.formats import Content, Format, known_labels
from wizloop.loop.data.records import BadRow, ImportRefused, Record, RowRefused
from wizloop.loop.words import TASKS, Task

Taken = Callable[[str], bool]
"""Returns whether a name means a built-in format."""


def every(taken: Taken) -> list[Format]:
    """Return all installed formats by name. Raises ImportRefused if one cannot be used: the file may need it."""
    return [_format(name, taken) for name in plugins.installed("format")]


def named(name: str, taken: Taken) -> Format | None:
    """Return an installed format, or None if none has this name. Raises ImportRefused if it cannot be used."""
    return _format(name, taken) if name in plugins.installed("format") else None


def _format(name: str, taken: Taken) -> Format:
    if why := plugins.fault("format", name, (name,) if taken(name) else ()):
        raise ImportRefused(f"{why} (or give another format: --format)")
    plugin = plugins.import_format(name)
    read, recognizes = partial(_read, name, plugin), partial(_recognizes, name, plugin)
    return Format(name, frozenset(plugin.columns), read, recognizes, plugin.note)


def _recognizes(name: str, plugin: plugins.ImportFormat, record: Record, file_name: str) -> bool:
    try:
        with plugins.blamed("format", name):
            return bool(plugin.recognizes(record, file_name))
    except plugins.PluginError as error:
        raise ImportRefused(str(error)) from error


def _read(name: str, plugin: plugins.ImportFormat, record: Record) -> Content | list[Content]:
    """Read a record. Raises RowRefused if the plugin refuses it, BadRow if it cannot read it."""
    try:
        rows = plugin.read(record)
        return _content(rows) if isinstance(rows, plugins.Row) else [_content(row) for row in rows]
    except ValueError as error:
        raise RowRefused(str(error)) from error
    except Exception as error:
        raise BadRow(f"the format {name!r} cannot read it: {type(error).__name__}: {error}") from error


def _content(row: plugins.Row) -> Content:
    labels: dict[Task, str] = {task: row.labels[task] for task in TASKS if task in row.labels}
    if unknown := set(row.labels) - set(labels):
        raise RowRefused(f"a label of {min(unknown)!r}: a task is one of {', '.join(TASKS)}")
    return Content(row.prompt, row.response, known_labels(**labels), row.source, row.policy)
