"""`teach`: traces for any file outside of a run, previews of requests, and a run's unanswered samples."""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wizloop.loop.commands.common import (
    DOLLARS,
    FAILED,
    FILE,
    INTERRUPTED,
    in_workspace,
    new_file,
    now,
    put,
    read_store,
    refuse,
    report_errors,
    say,
    with_json,
)
from wizloop.loop.commands.reading import reading, with_reading

if TYPE_CHECKING:
    from wizloop.recipes.schema import Recipe

SHOWN = 2000
"""Characters of a message that are shown."""


_MOST_WORDS = 10


@click.command(short_help="Write a teacher's traces for any file, outside of a run.")
@click.argument("file", type=FILE, required=False)
@click.option("--teacher", metavar="NAME", help="Teacher to ask; default: the recipe's.")
@click.option("--out", type=FILE, metavar="TRACES.json", help="File to write the traces to.")
@click.option("--recipe", metavar="RECIPE", help="Recipe whose [teacher] section to use: models, prices.")
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help="Ask about the first N rows.")
@with_reading
@click.option("--sees-label", is_flag=True, help="Show the teacher the labels that FILE has.")
@click.option("--budget", type=DOLLARS, metavar="USD", help="Spend at most this much.")
@click.option("--dry-run", is_flag=True, help="Show the requests for FILE or the run, and send nothing.")
@click.option("--keep", type=FILE, metavar="CALLS.jsonl", help="Write a run's calls to a file, for replay.")
@click.option("--unanswered", is_flag=True, help="List a run's selected samples that no teacher answered.")
@click.option("--ask-again", is_flag=True, help="Let a run ask ambiguous calls again.")
@in_workspace
@with_json
def teach(
    file: Path | None,
    teacher: str | None,
    out: Path | None,
    recipe: str | None,
    samples: int | None,
    sees_label: bool,
    budget: float | None,
    dry_run: bool,
    keep: Path | None,
    unanswered: bool,
    ask_again: bool,
    workspace: Path,
    as_json: bool,
    **settings: Any,
) -> None:
    """Ask a teacher about every row of FILE and write the traces to --out, outside of any run.

    Paid answers are kept in a folder next to --out: run the same command again to ask only for what is missing. An
    ambiguous call was in flight when a process died; it stays charged.
    """
    if (file is not None or dry_run) + unanswered + ask_again + (keep is not None) != 1:
        refuse("give one of FILE, --dry-run, --unanswered, --ask-again, --keep")
    how = {name: value for name, value in reading(**settings).items() if value}
    if how and file is None:
        refuse("--map, --label, --format and --turns are for a FILE")
    if dry_run:
        named = file is not None or teacher is not None or recipe is not None
        asked = _recipe(recipe, teacher, sees_label) if named else None
        _dry_run(file, how, asked, samples or 10, out, workspace, as_json)
    elif unanswered:
        _unanswered(workspace, as_json)
    elif keep is not None:
        _keep(keep, workspace)
    elif ask_again:
        _ask_again(workspace)
    elif file is not None:
        if out is None:
            refuse("give a file for the traces: --out traces.json")
        _check_files(file, out)
        _write(file, out, _recipe(recipe, teacher, sees_label), how, samples, budget, as_json)


def _recipe(named: str | None, teacher: str | None, sees_label: bool) -> "Recipe":
    """Return the recipe whose teachers are asked; with `sees_label` they are shown every known label."""
    from pydantic import ValidationError

    from wizloop.loop.commands.teach_file import recipe_for
    from wizloop.recipes import schema

    with report_errors(schema.RecipeError):
        base = None if named is None else schema.load(named)
    try:
        asked = recipe_for(base, teacher, sees_label=sees_label)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        refuse(f"--teacher {teacher}: {fault['msg'].removeprefix('Value error, ')}")
    if (unknown := schema.unknown_name(asked)) is not None:
        refuse(f"--teacher {teacher}: {unknown}")
    return asked


def _check_files(file: Path, out: Path) -> None:
    """Refuse a missing input, which would leave an empty ledger, and an output that `teach` did not write."""
    from wizloop.loop.commands.teach_file import ledger_of

    if not file.is_file():
        refuse(f"{file}: " + ("it is a folder; give a file in it" if file.is_dir() else "no such file; check the name"))
    if out.exists() and not ledger_of(out).is_dir():
        refuse(f"{out} exists, and no earlier `wizloop teach` wrote it: choose a new file")


def _write(
    file: Path,
    out: Path,
    recipe: "Recipe",
    how: dict[str, Any],
    limit: int | None,
    budget: float | None,
    as_json: bool,
) -> None:
    from wizloop.backends.teachers.replay import BadRecording
    from wizloop.loop.commands import teach_file
    from wizloop.loop.data.records import ImportRefused
    from wizloop.loop.interrupted import Interrupted
    from wizloop.loop.teaching import clients, prices
    from wizloop.recipes.policies import PolicyError

    known = (ImportRefused, clients.NotReady, prices.PriceError, PolicyError, teach_file.OtherQuestions, BadRecording)
    with report_errors(*known), _stopping() as stop:
        try:
            metadata = teach_file.write_traces(
                file,
                out,
                recipe,
                how,
                limit=limit,
                cap_micro=None if budget is None else round(budget * 1_000_000),
                clock=now,
                stop_asked=stop.is_set,
            )
        except Interrupted:
            refuse("interrupted: answers are kept. Run the same command to resume.", INTERRUPTED)
    if as_json:
        put({**metadata, "out": str(out), "ledger": str(teach_file.ledger_of(out))})
    say(f"{out}: {metadata['answered']:,} of {metadata['total_samples']:,} rows answered, ${metadata['usd']:.4f}")
    _say_left_out(metadata)
    if metadata["kept_back"]:
        say(f"{metadata['kept_back']:,} rows are kept back from the teachers, and were not sent")
    if metadata["answered"] == metadata["total_samples"]:
        return
    for one in metadata["failures"]:
        say(f"{one['n']:,} x {_result(one['teacher'], one['outcome'], one['category'])}")
    if metadata["given_up"]:
        why = "; ".join(f"{name}: {reason}" for name, reason in metadata["given_up"].items())
        refuse(f"not every row could be asked about. {why}. Run the same command then: it asks only these", FAILED)
    if metadata["failures"] and not metadata["answered"]:
        refuse("no answer could be used: see the reasons above", FAILED)


def _say_left_out(metadata: dict[str, Any]) -> None:
    """Say which rows were not asked about, and which labels are unknown and count for nothing."""
    if metadata["left_out"]:
        say(f"{metadata['left_out']:,} of its rows are left out")
    for line in metadata["why_left_out"]:
        say(f"  {line}")
    for task, words in metadata["unknown_labels"].items():
        listed = ", ".join(f"{n:,} {word!r}" for word, n in list(words.items())[:_MOST_WORDS])
        say(f"unknown {task} labels, asked about without this label: {listed} (say what they mean: --label WORD=LABEL)")


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C sets: calls in flight are still waited for and recorded."""
    stop = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _dry_run(
    file: Path | None,
    how: dict[str, Any],
    recipe: "Recipe | None",
    limit: int,
    out: Path | None,
    workspace: Path,
    as_json: bool,
) -> None:
    """Show the requests for the first rows of a file, or of a run, with their likely and their highest cost."""
    from wizloop.loop.context import recipe_of
    from wizloop.loop.data.records import ImportRefused
    from wizloop.loop.teaching import request_preview
    from wizloop.loop.teaching.prices import PriceError
    from wizloop.recipes.policies import PolicyError

    with report_errors(ImportRefused, PriceError, PolicyError):
        if file is not None and recipe is not None:
            questions = request_preview.of_file(recipe, file, limit, how)
            with _earlier_calls(out, workspace) as db:
                found = request_preview.previews(recipe, questions, now(), db)
        else:
            with read_store(workspace) as db:
                asked = recipe or recipe_of(db)
                found = request_preview.previews(asked, request_preview.of_run(db, asked, limit), now(), db)
    if as_json:
        put(found)
        return
    for one in found:
        _print_preview(one)
    say("nothing was sent")


@contextmanager
def _earlier_calls(out: Path | None, workspace: Path) -> Iterator[Any]:
    """Yield the ledger next to the output, or else the workspace, to estimate by; None if neither can be read."""
    from wizloop.loop.commands.teach_file import ledger_of
    from wizloop.store.db import Store
    from wizloop.store.errors import StoreError

    ledger = workspace if out is None or not ledger_of(out).is_dir() else ledger_of(out)
    try:
        store = Store.open(ledger, readonly=True)
    except StoreError:
        yield None
        return
    with store, store.read() as db:
        yield db


def _print_preview(one: dict[str, Any]) -> None:
    from wizloop.store.display import shown

    if not one["requests"]:
        free = "runs here, sends nothing and costs nothing"
        plugin = f"is an installed plugin, {_usage(one['at_most'])} at most"
        print(shown(f"{one['teacher']} ({one['model']}): {free if one['at_most']['usd'] == 0 else plugin}"))
        return
    for number, request in enumerate(one["requests"], start=1):
        instruction, message = _texts(request)
        if number == 1:
            print(shown(f"--- {one['teacher']}: the instruction, the same for all"))
            _print_text(instruction)
        print(shown(f"--- {one['teacher']}: request {number}"))
        _print_text(message)
    head = f"--- {one['teacher']} ({one['model']}, {one['mode']}): {len(one['requests'])} requests"
    print(shown(f"{head}, {_usage(one['at_most'])} at most"))
    print(shown(f"    about {_usage(one['expected'])}: {one['expected']['rests_on']}"))


def _usage(sums: dict[str, Any]) -> str:
    cost = "price unknown" if sums["usd"] is None else f"${sums['usd']:.4f}"
    return f"{sums['input_tokens']:,} tokens in and {sums['output_tokens']:,} out, {cost}"


def _texts(request: dict[str, Any]) -> tuple[str, str]:
    """Return the instruction and the message of a request, in any provider's format."""
    if "systemInstruction" in request:
        return request["systemInstruction"]["parts"][0]["text"], request["contents"][0]["parts"][0]["text"]
    if "system" in request:
        return request["system"][0]["text"], request["messages"][0]["content"]
    return request["messages"][0]["content"], request["messages"][1]["content"]


def _print_text(text: str) -> None:
    from wizloop.store.display import shown

    for line in text[:SHOWN].splitlines():
        print(shown(f"    {line}", SHOWN))
    if len(text) > SHOWN:
        print(f"    ... and {len(text) - SHOWN:,} characters more; --json has them all")


def _unanswered(workspace: Path, as_json: bool) -> None:
    """List a run's selected samples that no teacher answered, with their calls."""
    from wizloop.store import costs
    from wizloop.store.display import shown

    with report_errors(), read_store(workspace, needs_run=True) as db:
        found = costs.unanswered(db)
    if as_json:
        put([_row(one) for one in found])
        return
    for one in found:
        results = [", then ".join(_result(*call) for call in one.calls)] if one.calls else []
        results += [f"{name} was not asked: {why}" for name, why in one.given_up.items()]
        print(shown(f"{one.sample_id}  round {one.round}: {'; '.join(results)}", 400))
        print(shown(f"    prompt: {' '.join(one.prompt.split())}", 400))
    say(
        f"{len(found)} samples that no teacher answered" if found else "every sample that was asked about has an answer"
    )


def _row(one: Any) -> dict[str, Any]:
    calls = [dict(zip(("teacher", "outcome", "category"), call, strict=True)) for call in one.calls]
    sample = {"id": one.sample_id, "prompt": one.prompt, "response": one.response}
    return {"sample": sample, "round": one.round, "calls": calls, "given_up": dict(one.given_up)}


def _result(teacher: str, outcome: str, category: str | None) -> str:
    return f"{teacher} {outcome}" + (f" ({category})" if category else "")


def _keep(path: Path, workspace: Path) -> None:
    """Write a run's ended calls, one JSON object per line, to a file that `teacher.replay` can name."""
    from wizloop.backends.teachers.base import OUTCOMES
    from wizloop.backends.teachers.replay import Kept
    from wizloop.store import steps, teacher_calls

    new_file(path)
    with report_errors(), read_store(workspace, needs_run=True) as db:
        calls = [call for round in steps.rounds(db) for call in teacher_calls.calls(db, round.number)]
    ended = [call for call in calls if call.state != "received" and call.outcome in OUTCOMES]
    with report_errors(), path.open("x", encoding="utf-8") as file:
        for call in ended:
            version = json.loads(call.request_json).get("version", "1")
            who, result = (call.key, call.teacher, call.model, version), (OUTCOMES[call.outcome], call.raw or "")
            file.write(f"{Kept(*who, *result, call.category, call.stop_reason).as_line()}\n")
    say(f'{path}: {len(ended)} calls; `replay = "{path}"` in a recipe\'s [teacher] replays them for free')


def _ask_again(workspace: Path) -> None:
    """Plan ambiguous calls again: they count as spent, and the next phase teach asks them once more."""
    from wizloop.store import call_writes, steps, teacher_calls
    from wizloop.store.db import Store

    with report_errors(), Store.open(workspace) as store, store.write() as db:
        lost = teacher_calls.in_state(db, "ambiguous")
        charged = sum(call.reserved_micro for call in lost)
        latest = max((round.number for round in steps.rounds(db)), default=0)
        taught = steps.step(db, latest, "teach")
        following = latest + 1 if taught is not None and taught.state == "done" else latest
        call_writes.replan(db, [call.id for call in lost], following)
    if not lost:
        say("no ambiguous calls")
        return
    say(f"{len(lost)} calls will be asked again in round {following}; ${charged / 1e6:.4f} stays charged")
