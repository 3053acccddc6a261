"""`review` for scripts and quick decisions: list the waiting traces, or decide on some."""

import getpass
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wizloop import regular_file
from wizloop.loop.commands import review_exchange
from wizloop.loop.commands.common import (
    FILE,
    ID,
    in_workspace_with_json,
    now,
    put,
    read_store,
    refuse,
    report_errors,
    say,
    show,
)

if TYPE_CHECKING:
    from wizloop.loop.exchange.tool_files import Tool
    from wizloop.loop.words import Declaration

_PAGE = 200
_DONE = {"approve": "approved", "reject": "rejected", "edit": "approved as edited"}


@click.command(short_help="List waiting traces; approve, reject or edit them.")
@click.option("--list", "listed", is_flag=True, help="List the waiting traces.")
@click.option("--approve", type=ID, multiple=True, metavar="ID", help="Train on this trace; repeatable.")
@click.option("--reject", type=ID, multiple=True, metavar="ID", help="Never train on it; needs --why.")
@click.option("--why", metavar="TEXT", help="Reason for the decision.")
@click.option(
    "--edit", type=(ID, FILE), metavar="ID FILE", help="Train on an edited trace: a JSON object with the new fields."
)
@click.option(
    "--export", "to", type=FILE, metavar="DIR", help="Write the waiting traces into this new folder, for --for's tool."
)
@click.option(
    "--for",
    "tool",
    type=click.Choice(["label-studio", "argilla"]),
    help="Tool in which colleagues judge what --export writes.",
)
@click.option(
    "--import", "answers", type=FILE, metavar="FILE", help="Record what people answered, from the tool's own export."
)
@in_workspace_with_json
def review(
    listed: bool,
    approve: tuple[int, ...],
    reject: tuple[int, ...],
    why: str | None,
    edit: tuple[int, Path] | None,
    to: Path | None,
    tool: "Tool | None",
    answers: Path | None,
    workspace: Path,
    as_json: bool,
) -> None:
    """List the traces that wait for review, or approve, reject or edit some.

    Either all decisions of --approve or --reject are recorded or none. --export and --import exchange them with Label
    Studio or Argilla; of answers, those on which people disagree, or that another person decided, change nothing.
    """
    asked = [listed, bool(approve), bool(reject), edit is not None, to is not None, answers is not None]
    if asked.count(True) != 1:
        refuse(
            "give one of --list, --approve ID, --reject ID --why TEXT, --edit ID FILE, --export DIR --for TOOL, "
            "--import FILE"
        )
    if (to is None) != (tool is None):
        refuse("--export DIR and --for TOOL go together: name the folder, and label-studio or argilla")
    why = (why or "").strip() or None
    with report_errors():
        if to is not None and tool is not None:
            review_exchange.write(workspace, to, tool)
        elif answers is not None:
            review_exchange.read(workspace, answers, as_json=as_json)
        elif listed:
            _list(workspace, as_json)
        elif edit is not None:
            _decide(workspace, edit[:1], "edit", why, _edited(workspace, *edit), as_json)
        elif reject and not why:
            refuse("a rejection needs a reason: --why TEXT")
        else:
            _decide(workspace, approve or reject, "approve" if approve else "reject", why, None, as_json)


def _list(workspace: Path, as_json: bool) -> None:
    with read_store(workspace) as db:
        rows = list(_waiting(db))
    if as_json:
        put(rows)
        return
    for row in rows:
        _show(row)
    say(f"{len(rows)} waiting for review" if rows else "nothing is waiting for review")


def _waiting(db: Any) -> Iterator[dict[str, Any]]:
    """Yield every waiting trace, by id, with its sample and the reason for its selection."""
    from wizloop.store import reviews, samples, selections

    after = 0
    while page := reviews.waiting(db, _PAGE, after):
        ids = [each.trace.sample_id for each in page]
        texts = {sample.id: sample for sample in samples.get(db, ids)}
        picked = {selection.sample_id: selection for selection in selections.of_samples(db, ids)}
        for each in page:
            yield _row(each, texts[each.trace.sample_id], picked.get(each.trace.sample_id))
        after = page[-1].trace.id


def _row(waiting: Any, sample: Any, picked: Any) -> dict[str, Any]:
    trace = waiting.trace
    return {
        "id": trace.id,
        "round": trace.round,
        "why_it_waits": waiting.reason,
        "sample": {"id": sample.id, "prompt": sample.prompt, "response": sample.response},
        "picked": None if picked is None else {"reason": picked.reason, "words": picked.words},
        "teacher": trace.teacher,
        "verdict": trace.verdict,
        "confidence": trace.confidence_word,
        "explanation": trace.explanation,
    }


def _show(row: dict[str, Any]) -> None:
    verdict = ", ".join(f"{task} {label}" for task, label in row["verdict"].items() if label)
    texts = {"prompt": row["sample"]["prompt"], "response": row["sample"]["response"], "because": row["explanation"]}
    show(
        f"{row['id']}  {verdict} ({row['teacher']}, {row['confidence']} confidence); waits: {row['why_it_waits']}", 400
    )
    for name, text in texts.items():
        if text is not None:
            show(f"    {name}: {' '.join(text.split())}", 400)


def _edited(workspace: Path, trace_id: int, path: Path) -> str:
    """Return the file's JSON, with a checked verdict on every task that the trace judges; the store checks the rest."""
    try:
        given = json.loads(regular_file.read_text(path))
    except OSError as error:
        refuse(f"{path}: cannot be read: {error.strerror}")
    except ValueError as error:
        refuse(f"{path}: not JSON: {error}")
    except RecursionError:
        refuse(f"{path}: lists or objects are nested too deeply")
    if isinstance(given, dict) and isinstance(given.get("verdict"), dict):
        from wizloop.loop.context import declared_of
        from wizloop.store import teacher_calls

        with read_store(workspace) as db:
            before, declared = teacher_calls.trace(db, trace_id).verdict, declared_of(db)
        given["verdict"] = _verdict(path, dict.fromkeys(before) | given["verdict"], before, declared)
    return json.dumps(given)


def _verdict(
    path: Path, given: dict[str, Any], before: Mapping[str, str | None], declared: "Declaration"
) -> dict[str, Any]:
    """Return the verdict if it has labels for exactly the tasks that the trace has; refuse it otherwise."""
    words = {str(task): labels for task, labels in declared.by_task.items()}
    for task, label in given.items():
        if task not in words and not (task in before and label is None):
            refuse(f"{path}: verdict.{task} is not a task: use {', '.join(words)}")
        if before.get(task) is None and label is not None:
            refuse(f"{path}: verdict.{task}: the sample has nothing to judge here: leave it out")
        if before.get(task) is not None and label not in words[task]:
            value = "missing" if label is None else json.dumps(label)
            refuse(f"{path}: verdict.{task} is {value}: it must be {' or '.join(words[task])}")
    return given


def _decide(
    workspace: Path, traces: Sequence[int], decision: str, why: str | None, edited_json: str | None, as_json: bool
) -> None:
    from wizloop.store import reviews
    from wizloop.store.db import Store

    by = f"person:{getpass.getuser()}"
    with Store.open(workspace) as store, store.write() as db:
        for trace_id in traces:
            reviews.review(
                db,
                trace_id=trace_id,
                decision=decision,
                by=by,
                reason=why,
                edited_json=edited_json,
                now=now(),
                decision_id=f"cli-{uuid.uuid4()}",
            )
    if as_json:
        put([{"id": trace_id, "decision": decision, "by": by} for trace_id in traces])
    for trace_id in traces:
        say(f"trace {trace_id}: {_DONE[decision]} by {by}")
