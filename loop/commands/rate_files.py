"""`rate export`, `rate import` and `rate agreement --rows`: a rating set in files, and ratings out of them."""

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wizloop.loop.commands.classify_files import cell
from wizloop.loop.commands.common import (
    new_file,
    new_folder,
    now,
    refuse,
    report_errors,
    say,
    show_recorded,
    written_whole,
)

if TYPE_CHECKING:
    from wizloop.loop.evaluation.rater_agreement import Agreement
    from wizloop.loop.exchange.tool_files import Tool

_TABLES = (".csv", ".jsonl")
_NEXT = {
    "label-studio": "make a project with the labeling interface in labeling.xml, import tasks.json into it, give its "
    "export to `wizloop rate import`",
    "argilla": "load it with `rg.Dataset.from_disk(path)`, and give its export to `wizloop rate import`",
    None: "fill in the columns *_verdict and coherence, then `wizloop rate import` it",
}
_COUNTED = {"new": "recorded", "changed": "changed", "known": "known already"}


def write(db: Any, path: Path, name: str | None, tool: "Tool | None", set_id: int | None) -> None:
    """Write what a rater has yet to rate; without a name, for a tool's own raters, every output."""
    from wizloop.loop.exchange import rating_files, tool_files
    from wizloop.store import ratings

    if tool is None and (name is None or path.suffix.lower() not in _TABLES):
        refuse("a table needs --as NAME and a file named .csv or .jsonl; for a tool give --for label-studio or argilla")
    (new_file if tool is None else new_folder)(path)
    found = ratings.get_set(db, set_id)
    by = None if name is None else ratings.person(name)
    known = {} if by is None else ratings.of_rater(db, found.id, by)
    left = [one for one in ratings.outputs(db, found.id) if one.id not in known]
    if not left:
        say(f"{name} has rated every output of set {found.id}")
        return
    rater = None if by is None else by.removeprefix(ratings.PERSON)
    if tool is not None:
        tool_files.write(path, tool, rating_files.form(left), [rating_files.item(one, rater) for one in left])
    else:
        _write_table(path, [rating_files.table_row(one, rater or "") for one in left])
    say(f"wrote {len(left):,} outputs of set {found.id} to {path}: {_NEXT[tool]}")


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    with written_whole(path) as file:
        if path.suffix.lower() == ".jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
            return
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows({name: cell(value) for name, value in row.items()} for row in rows)


def read(workspace: Path, path: Path, *, as_json: bool) -> None:
    """Record the ratings in a file, in one transaction, and say what was not recorded and why."""
    from wizloop.loop.data.records import ImportRefused
    from wizloop.loop.exchange import rating_answers, rating_files, tool_answers
    from wizloop.store.db import Store

    with report_errors(ImportRefused):
        answers = tool_answers.read(path, rating_files.ASKED)
    with Store.open(workspace) as store, store.write() as db:
        outcome = rating_answers.record(db, answers.found, now())
    show_recorded(outcome.counts, _COUNTED, [*answers.problems, *outcome.problems], as_json=as_json)


def write_rows(path: Path, found: "Agreement", *, texts: bool) -> None:
    """Write the outputs on which raters differ to a new file."""
    from wizloop.loop.evaluation.rater_agreement import TEXTS

    with written_whole(path) as file:
        for row in found.differing:
            file.write(json.dumps({key: value for key, value in row.items() if texts or key not in TEXTS}) + "\n")
    say(f"wrote {len(found.differing):,} rows to {path}")
