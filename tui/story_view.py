"""One sample's whole story as text: what was said of it, picked, taught, decided, trained on. It asks nothing."""

from collections.abc import Iterable

from rich.text import Text

from wizloop.console.words import CELL_NAMES
from wizloop.store.browsing import Said, Story
from wizloop.store.reviews import Review
from wizloop.tui.dialogs import paragraphs
from wizloop.tui.formatting import verdicts


def story_text(story: Story) -> Text:
    """The sample, then what happened to it, in the order of the loop."""
    sample = story.sample
    labels = ", ".join(f"{task} {label}" for task, label in sample.labels.items()) or "none"
    out = f"\nnot used: {sample.excluded}" if sample.excluded else ""
    about = f"split {sample.split}, from {sample.source} {sample.row_ref}, policy {sample.policy or 'unknown'}{out}"
    return paragraphs(
        (f"Sample {sample.id}", about),
        ("Prompt", sample.prompt),
        ("Response", sample.response or ""),
        ("Dataset's labels", labels),
        *((f"Round {said.round}, {said.model} ({said.role})", _said(said)) for said in story.said),
        ("Picked", _picked(story)),
        ("Asked of teachers", _lines(f"round {r}: {who}, {state}{_paren(out)}" for r, who, state, out in story.calls)),
        *((f"Trace {trace.id} by {trace.teacher}", _trace(trace.verdict, trace.explanation)) for trace in story.traces),
        ("Reviews", _lines(_review(row) for row in story.reviews)),
        ("Trained on", _lines(f"{model}, {kind}" for model, kind in story.uses)),
        ("Left out", _lines(f"round {r}, {kind}: {reason}" for r, kind, reason in story.dropped)),
    )


def _said(said: Said) -> str:
    sure = "" if said.confidence is None else f"; confidence {said.confidence:.3f}"
    cell = "" if said.cell is None else f", {CELL_NAMES.get(said.cell, said.cell)}"
    odds = ", ".join(f"{task} {p:.3f}" for task, p in said.probability.items())
    head = f"{verdicts(said.verdict)}; P of harm or refusal: {odds}{sure}{cell}"
    apart = [f"{name} {value:.3f}" for name, value in said.signals.items() if value is not None and "disagree" in name]
    traces = [f"- {verdicts(verdict)}, mean confidence {mean:.2f}: {text}" for text, verdict, mean in said.traces]
    return "\n".join([head, *apart, *traces])


def _picked(story: Story) -> str:
    picked = story.selection
    if picked is None:
        return ""
    return f"round {picked.round}, {picked.reason.replace('_', ' ')}, rank {picked.rank}: {picked.words}"


def _trace(verdict: dict[str, str | None], explanation: str) -> str:
    return f"{verdicts(verdict)}: {explanation}"


def _review(row: Review) -> str:
    return f"{row.decided_at.astimezone():%d %b %H:%M:%S} {row.decision} by {row.by}{_paren(row.reason)}"


def _paren(text: str | None) -> str:
    return f" ({text})" if text else ""


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)
