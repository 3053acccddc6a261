"""What `teach` does beside asking: show what would be sent, list what no teacher answered, keep what was answered."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wizloop.loop.commands.common import new_file, now, put, reading, reading_a_run, say, sentences

if TYPE_CHECKING:
    from wizloop.recipes.schema import Recipe

SHOWN = 2000
"""Characters of a message that a person is shown."""


def dry_run(
    file: Path | None, recipe: "Recipe | None", limit: int, out: Path | None, workspace: Path, as_json: bool
) -> None:
    """Show what would be sent about the first rows of a file, or of a run, and the cost of it, about and at most."""
    from wizloop.loop.context import recipe_of
    from wizloop.loop.data.records import ImportRefused
    from wizloop.loop.teaching import preview as dry
    from wizloop.loop.teaching.prices import PriceError
    from wizloop.recipes.policies import PolicyError

    with sentences(ImportRefused, PriceError, PolicyError):
        if file is not None and recipe is not None:
            texts = dry.of_file(file, limit)
            with _calls_of_before(out, workspace) as db:
                found = dry.told(recipe, texts, now(), db)
        else:
            with reading(workspace) as db:
                asked = recipe or recipe_of(db)
                found = dry.told(asked, dry.of_run(db, asked, limit), now(), db)
    if as_json:
        put(found)
        return
    for one in found:
        _print(one)
    say("nothing was sent")


@contextmanager
def _calls_of_before(out: Path | None, workspace: Path) -> Iterator[Any]:
    """The ledger beside the output, or else the workspace, to measure by; None where neither can be read."""
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


def unanswered(workspace: Path, as_json: bool) -> None:
    """List a run's picked samples that no teacher answered, with what they came to."""
    from wizloop.store.display import shown

    with sentences(), reading_a_run(workspace) as db:
        from wizloop.store import costs

        found = [_row(one) for one in costs.unanswered(db)]
    if as_json:
        put(found)
        return
    for row in found:
        came_to = [", then ".join(_outcome(one) for one in row["calls"])] if row["calls"] else []
        came_to += [f"{name} was not asked: {why}" for name, why in row["given_up"].items()]
        print(shown(f"{row['sample']['id']}  round {row['round']}: {'; '.join(came_to)}", 400))
        print(shown(f"    prompt: {' '.join(row['sample']['prompt'].split())}", 400))
    say(f"{len(found)} samples that no teacher answered" if found else "every sample that was asked about is answered")


def keep(path: Path, workspace: Path) -> None:
    """Write a run's calls into a file that `teacher.replay` can name."""
    from wizloop.loop.teaching.keeping import keep as kept

    new_file(path)
    with sentences(), reading_a_run(workspace) as db:
        number = kept(db, path)
    say(f'{path}: {number} calls; `replay = "{path}"` in a recipe\'s [teacher] lets them answer again, for nothing')


def _print(one: dict[str, Any]) -> None:
    from wizloop.store.display import shown

    most = one["at_most"]
    if not one["requests"]:
        free = "runs here, is sent nothing and costs nothing"
        told = free if most["usd"] == 0 else f"is an installed plugin, {_taken(most)} at most"
        print(shown(f"{one['teacher']} ({one['model']}): {told}"))
        return
    for number, request in enumerate(one["requests"], start=1):
        told, message = _texts(request)
        if number == 1:
            print(shown(f"--- {one['teacher']}: the instruction, the same for all"))
            _lines(told)
        print(shown(f"--- {one['teacher']}: request {number}"))
        _lines(message)
    requests = len(one["requests"])
    print(shown(f"--- {one['teacher']} ({one['model']}, {one['mode']}): {requests} requests, {_taken(most)} at most"))
    print(shown(f"    about {_taken(one['expected'])}: {one['expected']['rests_on']}"))


def _taken(sums: dict[str, Any]) -> str:
    cost = "of a price that is not known" if sums["usd"] is None else f"${sums['usd']:.4f}"
    return f"{sums['input_tokens']:,} tokens in and {sums['output_tokens']:,} out, {cost}"


def _texts(request: dict[str, Any]) -> tuple[str, str]:
    """The instruction and the message of a request, as each provider words it."""
    if "systemInstruction" in request:
        return request["systemInstruction"]["parts"][0]["text"], request["contents"][0]["parts"][0]["text"]
    if "system" in request:
        return request["system"][0]["text"], request["messages"][0]["content"]
    return request["messages"][0]["content"], request["messages"][1]["content"]


def _lines(text: str) -> None:
    from wizloop.store.display import shown

    for line in text[:SHOWN].splitlines():
        print(shown(f"    {line}", SHOWN))
    if len(text) > SHOWN:
        print(f"    ... and {len(text) - SHOWN:,} characters more; --json has them all")


def _row(one: Any) -> dict[str, Any]:
    calls = [{"teacher": teacher, "outcome": outcome, "category": category} for teacher, outcome, category in one.calls]
    sample = {"id": one.sample_id, "prompt": one.prompt, "response": one.response}
    return {"sample": sample, "round": one.round, "calls": calls, "given_up": dict(one.given_up)}


def _outcome(call: dict[str, Any]) -> str:
    return f"{call['teacher']} {call['outcome']}" + (f" ({call['category']})" if call["category"] else "")
