"""One waiting trace as the texts of the review screen: labels, sample, teacher's side, guard's side."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence

from rich.text import Text

from wizloop.console.operating import cell_words
from wizloop.console.tables import aligned, plain
from wizloop.console.words import TASKS
from wizloop.store.browsing import Judgement
from wizloop.store.review_queue import Case, Decided
from wizloop.tui.dialogs import paragraphs
from wizloop.tui.formatting import verdicts


def state_lines(case: Case, place: str) -> Text:
    """Build two lines: which trace it is, and why it waits or what was decided on it."""
    trace, in_effect = case.trace, case.standing
    if in_effect is None:
        why = "the rule has not judged it yet"
    elif in_effect.decision == "wait":
        why = f"waits: {in_effect.reason or 'the rule gave no reason'}"
    else:
        reason = f" ({in_effect.reason})" if in_effect.reason else ""
        why = f"decided: {in_effect.decision} by {in_effect.by}{reason}"
    about = f"trace {trace.id} of round {trace.round} by {trace.teacher}, {trace.confidence_word} confidence; {place}"
    text = Text.assemble(plain(about), "\n", plain(why.replace("\n", " ")))
    text.stylize("bold", len(about))
    return text


def verdict_lines(case: Case) -> Text:
    """Build a line per task with the labels of teacher, dataset, guard and members; a mark shows disagreement."""
    guard, members = _guard_and_members(case)
    heads = ["", " teacher", " dataset", f" {guard.model}, P" if guard else " guard", " members"]
    rows = [[Text(plain(head).plain, "bold") for head in heads]]
    for task in TASKS:
        label = case.trace.verdict.get(task)
        if label is not None:
            dataset = _label(label, case.sample.labels.get(task))
            rows.append(
                [plain(task), plain(f" {label}"), dataset, _guards(guard, task, label), _votes(members, task, label)]
            )
    return aligned([row if members else row[:-1] for row in rows])


def _guard_and_members(case: Case) -> tuple[Judgement | None, list[Judgement]]:
    """Return the newest guard's judgement, and the members'."""
    guards = [one for one in case.judgements if one.role != "member"]
    return (guards[-1] if guards else None), [one for one in case.judgements if one.role == "member"]


def _marked(text: str, same: bool) -> Text:
    """Build a cell, bold and with a mark if it is not the same as the teacher's label."""
    cell = plain(f"{' ' if same else '≠'}{text}")
    cell.stylize("" if same else "bold")
    return cell


def _label(teachers: str, other: str | None, more: str = "") -> Text:
    return plain(" -") if other is None else _marked(f"{other}{more}", other == teachers)


def _guards(guard: Judgement | None, task: str, label: str) -> Text:
    if guard is None:
        return plain(" -")
    p = guard.probability.get(task)
    return _label(label, guard.verdict.get(task), "" if p is None else f" {p:.2f}")


def _votes(members: Sequence[Judgement], task: str, label: str) -> Text:
    """Count the members' labels, the teacher's first: `2 harmful, 1 unharmful`."""
    counts = Counter(verdict for one in members if (verdict := one.verdict.get(task)))
    votes = [f"{n} {name}" for name, n in sorted(counts.items(), key=lambda pair: pair[0] != label)]
    return _marked(", ".join(votes) or "-", set(counts) <= {label})


def sample_text(case: Case) -> Text:
    """Build the prompt and the response, if any."""
    return paragraphs(("", case.sample.prompt), ("Response", case.sample.response or ""))


def teacher_text(case: Case) -> Text:
    """Build the teacher's explanation and rationale."""
    trace = case.trace
    return paragraphs(("Because", trace.explanation), *_rationale(trace.trace_json), *_rationale(trace.steps_json))


def _rationale(text: str) -> list[tuple[str, str]]:
    """Return the fields of a trace's JSON as (heading, sentences)."""
    given = json.loads(text)
    fields = given.items() if isinstance(given, dict) else [("steps", given)]
    return [(name.replace("_", " ").capitalize(), _sentences(value)) for name, value in fields]


def _sentences(value: object) -> str:
    return "\n".join(f"- {line}" for line in value) if isinstance(value, list) else str(value)


def guard_text(case: Case, similar: Sequence[tuple[float, Decided]]) -> Text:
    """Build the reason of the selection, the guards' judgements, similar decided traces, and the sampled traces."""
    guard, members = _guard_and_members(case)
    judgements = [*([guard] if guard else []), *members]
    selected = case.selection
    picked = f"{selected.words} ({selected.reason.replace('_', ' ')})" if selected else "not picked by the loop"
    judged = "\n".join(line for one in judgements for line in _judged(one)) or "no predictions"
    traces = [(f"Trace {n} of {one.model}", trace) for one in judgements for n, trace in enumerate(one.traces, start=1)]
    return paragraphs(
        ("Picked", picked),
        ("Guard and members", judged),
        ("Similar and decided", "\n".join(_decided(score, one) for score, one in similar) or "none"),
        *(
            (head, f"{verdicts(label)}, mean token confidence {mean:.2f}\n{text}")
            for head, (text, label, mean) in traces
        ),
    )


def _judged(judgement: Judgement) -> Iterator[str]:
    """Yield a model's verdicts with P(harm or refusal); for a guard also its confidence, cell and disagreements."""
    odds = {task: f" {p:.2f}" for task, p in judgement.probability.items()}
    labels = [f"{task} {label}{odds.get(task, '')}" for task in TASKS if (label := judgement.verdict.get(task))]
    yield f"{judgement.model}: {', '.join(labels) or 'no verdict'}"
    if judgement.role == "member":
        return
    if judgement.confidence is not None:
        cell = cell_words(judgement.cell, judgement.calibration_json, judgement.signals)
        yield f"  confidence {judgement.confidence:.2f}, {cell}"
    for name, value in judgement.disagreements.items():
        yield f"  {name.replace('_', ' ')} {value:.2f}"


def _decided(score: float, one: Decided) -> str:
    prompt = " ".join(one.prompt.split())
    prompt = prompt if len(prompt) <= 80 else f"{prompt[:79]}…"
    return f"{score:.0%} {one.decision}, {verdicts(one.verdict)}, by {one.by}: {prompt}"
