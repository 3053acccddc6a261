"""One trace that waits, as the texts of the review screen: who says what, the sample, and both sides."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence

from rich.text import Text

from wizloop.console.tables import aligned, plain
from wizloop.console.words import CELL_NAMES, TASKS
from wizloop.store.browsing import Said
from wizloop.store.review_queue import Case, Decided
from wizloop.tui.dialogs import paragraphs
from wizloop.tui.formatting import verdicts


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


def verdict_lines(case: Case) -> Text:
    """A line for each task, a column for each that has a word on it; what differs from the teacher has a mark."""
    guard, members = _guard_and_members(case.said)
    heads = ["", " teacher", " dataset", f" {guard.model}, P" if guard else " guard", " members"]
    rows = [[Text(plain(head).plain, "bold") for head in heads]]
    for task in TASKS:
        label = case.trace.verdict.get(task)
        if label is not None:
            beside = _beside(label, case.sample.labels.get(task))
            others = (beside, _guards(guard, task, label), _members(members, task, label))
            rows.append([plain(task), plain(f" {label}"), *others])
    return aligned([row if members else row[:-1] for row in rows])


def _guard_and_members(said: Sequence[Said]) -> tuple[Said | None, list[Said]]:
    """The guard that judged last, and the members."""
    guards = [one for one in said if one.role != "member"]
    return (guards[-1] if guards else None), [one for one in said if one.role == "member"]


def _beside(teachers: str, other: str | None, more: str = "") -> Text:
    """Another's label: a mark and bold where it is not the teacher's, a dash where there is none."""
    if other is None:
        return plain(" -")
    cell = plain(f"{' ' if other == teachers else '≠'}{other}{more}")
    cell.stylize("" if other == teachers else "bold")
    return cell


def _guards(guard: Said | None, task: str, label: str) -> Text:
    if guard is None:
        return plain(" -")
    p = guard.probability.get(task)
    return _beside(label, guard.verdict.get(task), "" if p is None else f" {p:.2f}")


def _members(members: Sequence[Said], task: str, label: str) -> Text:
    """How many of them say what, the teacher's label first: `2 harmful, 1 unharmful`."""
    counts = Counter(verdict for one in members if (verdict := one.verdict.get(task)))
    told = [f"{n} {name}" for name, n in sorted(counts.items(), key=lambda pair: pair[0] != label)]
    cell = plain(f"{' ' if set(counts) <= {label} else '≠'}{', '.join(told) or '-'}")
    cell.stylize("" if set(counts) <= {label} else "bold")
    return cell


def sample_text(case: Case) -> Text:
    """The prompt and, where there is one, the response."""
    return paragraphs(("", case.sample.prompt), ("Response", case.sample.response or ""))


def teacher_text(case: Case) -> Text:
    """The reason and the rationale."""
    trace = case.trace
    return paragraphs(
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
    """Why it was picked, how sure each guard was, what was decided on near neighbours, and the sampled traces."""
    guard, members = _guard_and_members(case.said)
    said = [*([guard] if guard else []), *members]
    picked = case.selection
    return paragraphs(
        ("Picked", f"{picked.words} ({picked.reason.replace('_', ' ')})" if picked else "not picked by the loop"),
        ("Guard and members", "\n".join(line for one in said for line in _judged(one)) or "none has judged it"),
        ("Near, and decided", "\n".join(_near(score, one) for score, one in near) or "none"),
        *((f"Trace {n} of {one.model}", _trace(trace)) for one in said for n, trace in enumerate(one.traces, start=1)),
    )


def _judged(said: Said) -> Iterator[str]:
    """One model's verdicts with P of harm or refusal; a guard's confidence, its cell, how far its members are apart."""
    odds = {task: f" {p:.2f}" for task, p in said.probability.items()}
    told = [f"{task} {said.verdict[task]}{odds.get(task, '')}" for task in TASKS if said.verdict.get(task)]
    yield f"{said.model}: {', '.join(told) or 'no verdict'}"
    if said.role == "member":
        return
    if said.confidence is not None:
        yield f"  confidence {said.confidence:.2f}, {CELL_NAMES.get(said.cell or '', said.cell or 'no cell')}"
    for name, value in said.signals.items():
        if value is not None and "disagree" in name:
            yield f"  {name.replace('_', ' ')} {value:.2f}"


def _trace(trace: tuple[str, dict[str, str | None] | None, float]) -> str:
    text, verdict, mean = trace
    return f"{verdicts(verdict)}, mean token confidence {mean:.2f}\n{text}"


def _near(score: float, one: Decided) -> str:
    prompt = " ".join(one.prompt.split())
    prompt = prompt if len(prompt) <= 80 else f"{prompt[:79]}…"
    return f"{score:.0%} {one.decision}, {verdicts(one.verdict)}, by {one.by}: {prompt}"
