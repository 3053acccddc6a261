"""`review --export` and `--import`: the waiting traces out to Label Studio or Argilla, and people's answers back."""

from pathlib import Path
from typing import TYPE_CHECKING

from wizloop.loop.commands.common import new_folder, now, read_store, report_errors, say, show_recorded

if TYPE_CHECKING:
    from wizloop.loop.exchange.tool_files import Tool

_NEXT = {
    "label-studio": "make a project with the labeling interface in labeling.xml and import tasks.json into it",
    "argilla": "load it with `rg.Dataset.from_disk(path)`",
}
_COUNTED = {
    "approve": "approved",
    "edit": "approved as edited",
    "reject": "rejected",
    "unchanged": "known already",
    "undecided": "without a decision",
}


def write(workspace: Path, folder: Path, tool: "Tool") -> None:
    """Write the waiting traces into a new folder, for a tool. Their texts leave the machine with it."""
    from wizloop.loop.exchange import review_cases

    new_folder(folder)
    with read_store(workspace) as db:
        cases = list(review_cases.waiting(db))
    if not cases:
        say("nothing is waiting for review")
        return
    review_cases.write(folder, tool, cases)
    say(f"wrote {len(cases):,} waiting traces to {folder}: {_NEXT[tool]}; later `wizloop review --import` its export")


def read(workspace: Path, file: Path, *, as_json: bool) -> None:
    """Record what people answered, in one transaction, and say what was not recorded and why."""
    from wizloop.loop.data.records import ImportRefused
    from wizloop.loop.exchange import review_decisions, tool_answers
    from wizloop.store.db import Store

    with report_errors(ImportRefused):
        answers = tool_answers.read(file, review_decisions.ASKED)
    with Store.open(workspace) as store, store.write() as db:
        outcome = review_decisions.record(db, answers.found, now())
    show_recorded(outcome.counts, _COUNTED, [*answers.problems, *outcome.problems], as_json=as_json)
