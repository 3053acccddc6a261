"""`import --traces`: reasoning that exists becomes traces of the workspace. Shared with `train`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wizloop.loop.commands.common import now, put, refuse, report_errors, say
from wizloop.loop.commands.import_data import MOST_DURING_A_RUN, opened, progress

_OPTIONS = ("path", "hub_split", "split", "map", "limit", "skip_bad", "label")
_UNSET = (None, False, (), "request")
"""Values of options that were not given."""

if TYPE_CHECKING:
    from wizloop.loop.teaching.given_import import TracesReport
    from wizloop.loop.words import Declaration
    from wizloop.recipes.sections import Data


def import_traces(workspace: Path, data: "Data", declared: "Declaration", *, dry_run: bool, as_json: bool) -> None:
    """Import the samples and traces of a file, and report them. Exits with status 2 for a file that is refused."""
    from wizloop.loop.data.import_file import RowsRefused
    from wizloop.loop.data.records import ImportRefused

    with report_errors(ImportRefused):
        try:
            report = _written(workspace, data, declared, dry_run)
        except RowsRefused as refused:
            if as_json:
                put({**refused.report.to_json(), "dry_run": dry_run})
            else:
                _list_reasons(refused.report.bad or refused.report.refused)
            raise
    if as_json:
        put({**report.to_json(), "dry_run": dry_run})
    else:
        _tell(data.path, report, dry_run)


def traces_data(settings: Mapping[str, Any]) -> "Data":
    """Return the options as a file of traces; refuse those of plain rows, which --traces has no use for."""
    from wizloop.loop.commands.reading import labels_of
    from wizloop.recipes.sections import Data

    if settings["split"] != "seed":
        refuse("--traces imports into seed, which is learned from: leave out --split")
    used = {name: settings.get(name) for name in _OPTIONS}
    if ignored := [name for name, given in settings.items() if name not in used and given not in _UNSET]:
        refuse(f"--traces takes a row as it is: leave out --{ignored[0].replace('_', '-')}")
    words = labels_of(settings.get("label", ()))
    more = {"skip_bad": bool(used["skip_bad"]), "map": _mapping(settings.get("map", ())), "label": words}
    return Data.model_validate({**used, **more})


def _mapping(pairs: Sequence[str]) -> dict[str, str]:
    """Return {field: column}; accepts both COLUMN=FIELD and FIELD=COLUMN."""
    from wizloop.loop.teaching.given_forms import MAP_KEYS

    mapping: dict[str, str] = {}
    for pair in pairs:
        column, _, field = pair.partition("=")
        if field not in MAP_KEYS:
            column, field = field, column
        if field not in MAP_KEYS or not column:
            refuse(f"--map {pair}: write it as COLUMN=FIELD, with a field of {', '.join(MAP_KEYS)}")
        mapping[field] = column
    return mapping


def _written(workspace: Path, data: "Data", declared: "Declaration", dry_run: bool) -> "TracesReport":
    """Check the whole file, then add its traces. Raises ImportRefused."""
    from wizloop.loop.context import standalone
    from wizloop.loop.controller import lock
    from wizloop.loop.data.records import ImportRefused
    from wizloop.loop.teaching import given_import
    from wizloop.recipes import schema
    from wizloop.recipes.tasks import Tasks

    with progress("read") as read:
        report = given_import.check(data, skip_bad=data.skip_bad, progress=read, declared=declared)
    if dry_run:
        return report
    if report.rows > MOST_DURING_A_RUN and lock.is_held(workspace):
        raise ImportRefused(
            f"{data.path}: a run is active in {workspace}: run `wizloop stop` first, or import at most "
            f"{MOST_DURING_A_RUN:,} rows (--limit)"
        )
    with opened(workspace) as store, progress("written", report.rows - len(report.refused)) as done:
        recipe = schema.load("imported").model_copy(update={"tasks": Tasks(**asdict(declared))})
        ctx = standalone(store, workspace, recipe, "teach", now())
        given_import.write(ctx, data, report, done)
    return report


def _tell(path: str, report: "TracesReport", dry_run: bool) -> None:
    """Print what became of a file's rows."""
    say(f"{path}: {report.format}" + (f"; assumed: {report.note}" if report.note else ""))
    usable = report.rows - len(report.refused)
    if dry_run:
        say(f"{report.rows:,} rows, {usable:,} with reasoning and a verdict")
    else:
        say(f"{report.rows:,} rows, {report.accepted:,} new traces" + (_later(report) if report.accepted else ""))
    for task, verdicts in report.labels.items():
        say(f"  {task}: " + ", ".join(f"{n:,} {label}" for label, n in verdicts.items()))
    if report.duplicates:
        say(f"{report.duplicates:,} of texts that have a trace already")
    if report.held_out:
        say(f"{report.held_out:,} of texts in dev or test, which nothing is learned from")
    if report.waiting:
        say(f"{report.waiting:,} contradict a known label and wait for a person: `wizloop review`")
    say(f"{len(report.refused):,} refused" + (f", {len(report.bad):,} of them bad rows" if report.bad else ""))
    _list_reasons(report.refused)
    if dry_run:
        say("dry run: nothing was written")


def _list_reasons(refused: Sequence[Any]) -> None:
    for line in _by_reason(refused):
        say(f"  {line}")


def _later(report: "TracesReport") -> str:
    return f", to be reviewed and learned from in round {report.round}"


def _by_reason(refused: Sequence[Any], most: int = 10) -> list[str]:
    """Return a line for each of the most frequent reasons, with its number of rows and the first of them."""
    numbers: dict[str, list[int]] = {}
    for row in refused:
        numbers.setdefault(row.reason, []).append(row.row)
    ordered = sorted(numbers.items(), key=lambda each: (-len(each[1]), each[1][0]))
    more = [f"and {len(ordered) - most:,} more reasons"] if len(ordered) > most else []
    return [f"{len(rows):,} from row {rows[0]} on: {reason}" for reason, rows in ordered[:most]] + more
