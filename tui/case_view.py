"""One trace that waits, as the texts of the review screen: the sample, the guard's side, the teacher's side."""

import json
from collections.abc import Sequence

from rich.text import Text

from wizloop.store.browsing import Said
from wizloop.store.review_queue import Case, Decided
from wizloop.tui.dialogs import paragraphs
from wizloop.tui.said import CELL_NAMES, verdicts
from wizloop.tui.tables import plain


def state_lines(case: Case, place: str) -> Text:
    """Two lines: which trace it is and why it waits, or what was decided on it."""
    trace, stands = case.trace, case.standing
    if stands is None or stands.decision == "wait":
        why = f"waits: {stands.reason or 'the rule gave no reason'}" if stands else "the rule has not come to it yet"
    else:
        reason = f" ({stands.reason})" if stands.reason else ""
        why = f"decided: {stands.decision} by {stands.by}{reason}"
    about = f"trace {trace.id} of round {trace.round} by {trace.teacher}, {trace.confidence_word} confidence; {place}"
    text = Text.assemble(plain(about), "\n", plain(why.replace("\n", " ")))
    text.stylize("bold", len(about))
    return text


def sample_text(case: Case) -> Text:
    """The prompt and, where there is one, the response."""
    return paragraphs(("", case.sample.prompt), ("Response", case.sample.response or ""))


def teacher_text(case: Case) -> Text:
    """The verdict beside the dataset's label, the reason, and the rationale."""
    trace = case.trace
    labels = case.sample.labels
    label = ", ".join(f"{task} {label}" for task, label in labels.items()) or "none"
    return paragraphs(
        ("Verdict", verdicts(trace.verdict)),
        ("Dataset's label", label),
        ("Because", trace.explanation),
        *_rationale(trace.trace_json),
        *_rationale(trace.steps_json),
    )


def _rationale(text: str) -> list[tuple[str, str]]:
    """The fields of a trace's JSON as (heading, sentences)."""
    given = json.loads(text)
    fields = given.items() if isinstance(given, dict) else [("steps", given)]
    return [(name.replace("_", " ").capitalize(), _sentences(value)) for name, value in fields]


def _sentences(value: object) -> str:
    if isinstance(value, list):
        return "\n".join(f"- {line}" for line in value)
    return str(value)


def guard_text(case: Case, near: Sequence[tuple[float, Decided]]) -> Text:
    """Why it was picked, what each member said, what was decided on near neighbours, and the sampled traces."""
    said = [one for one in case.said if one.role != "member"][-1:] + [one for one in case.said if one.role == "member"]
    picked = case.selection
    return paragraphs(
        ("Picked", f"{picked.words} ({picked.reason.replace('_', ' ')})" if picked else "not picked by the loop"),
        ("Guard and members", "\n".join(map(_judged, said)) or "none has judged it"),
        ("Near, and decided", "\n".join(_near(score, one) for score, one in near) or "none"),
        *((f"Trace {n} of {one.model}", _trace(trace)) for one in said for n, trace in enumerate(one.traces, start=1)),
    )


def _judged(said: Said) -> str:
    sure = "" if said.confidence is None else f", confidence {said.confidence:.2f}"
    cell = f", {CELL_NAMES.get(said.cell, said.cell)}" if said.cell else ""
    odds = ", ".join(f"{task} {p:.2f}" for task, p in said.probability.items())
    return f"{said.model}: {verdicts(said.verdict)} (P of harm or refusal: {odds}{sure}{cell})"


def _trace(trace: tuple[str, dict[str, str | None] | None, float]) -> str:
    text, verdict, mean = trace
    return f"{verdicts(verdict)}, mean token confidence {mean:.2f}\n{text}"


def _near(score: float, one: Decided) -> str:
    prompt = " ".join(one.prompt.split())[:80]
    return f"{score:.0%} {one.decision}, {verdicts(one.verdict)}, by {one.by}: {prompt}"
