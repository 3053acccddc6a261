"""Whether a reasoning speaks against the verdict behind it: by what was taught with it, and by what it says.

A guard that repeats a taught sentence and then answers the other way is right by chance: HS-DPO must not prefer that.
Words are matched: a reasoning that nobody taught and that states no conclusion speaks against nothing.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping

from wizloop.loop.guard.categories import HEAD
from wizloop.loop.guard.grammar import ANSWERS, parse
from wizloop.loop.teaching import conclusions
from wizloop.loop.words import DEFAULT, Declaration, Task, Verdict
from wizloop.store.teacher_calls import TeacherTrace

Taught = Mapping[str, Mapping[Task, set[str]]]
"""The labels that lessons have behind a reasoning, by task."""


def reasoning_of(text: str) -> str:
    """Return a trace's text before its answer block, without the white space around it."""
    return text.rpartition(f"\n{ANSWERS}")[0].strip()


def taught_with(traces: Iterable[str], declared: Declaration = DEFAULT) -> Taught:
    """Return the labels that lessons' traces, each with its answer block, have behind each reasoning."""
    found: dict[str, dict[Task, set[str]]] = defaultdict(lambda: defaultdict(set))
    for text in traces:
        # The categories, if a guard names any, follow the verdicts.
        parsed = parse(text.rpartition(f"\n{HEAD}")[0] or text, declared)
        for task, label in {} if parsed is None else parsed.verdict.items():
            if label is not None:
                found[reasoning_of(text)][task].add(label)
    return found


def contradicts(
    text: str, verdict: Verdict, taught: Taught, *, has_response: bool, declared: Declaration = DEFAULT
) -> bool:
    """Return whether a trace's reasoning speaks against its verdict on any task."""
    body = reasoning_of(text)
    known: Mapping[Task, set[str]] = taught.get(body, {})
    given = {task: label for task, label in verdict.items() if label is not None}
    if any(label not in known.get(task, {label}) for task, label in given.items()):
        return True
    if has_response or declared.request != DEFAULT.request:
        # "It" may be the request or the response, and other words conclude nothing.
        return False
    return conclusions.concluded("request", body) not in (None, given.get("request"))


def is_overruled(trace: TeacherTrace, reasoning: str) -> bool:
    """Return whether a person changed a trace's verdict and not its reasoning, so that it argues for the former one.

    `reasoning` is guard.reasoning: whether the guard learns its sentence or its steps.
    """
    written, steps = json.loads(trace.trace_json), json.loads(trace.steps_json)
    changed = [task for task, label in trace.verdict.items() if written.get(task) not in (None, label)]
    if reasoning == "sentence":
        return bool(changed) and trace.explanation == written.get("explanation")
    return any((steps.get(task) or []) == (written.get(f"{task}_steps") or []) for task in changed)
