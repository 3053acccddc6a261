"""The history of one sample as text: predictions, selection, teaching, reviews, training. Pure."""

from rich.text import Text

from wizloop.console.operating import cell_words
from wizloop.store.browsing import History, Judgement
from wizloop.store.reviews import Review
from wizloop.tui.dialogs import paragraphs
from wizloop.tui.formatting import verdicts


def history_text(history: History) -> Text:
    """Build the sample's text, then what happened to it, in the order of the loop."""
    sample, selection = history.sample, history.selection
    labels = ", ".join(f"{task} {label}" for task, label in sample.labels.items()) or "none"
    excluded = f"\nnot used: {sample.excluded}" if sample.excluded else ""
    about = f"split {sample.split}, from {sample.source} {sample.row_ref}, policy {sample.policy or 'unknown'}"
    picked = (
        f"round {selection.round}, {selection.reason.replace('_', ' ')}, rank {selection.rank}: {selection.words}"
        if selection
        else ""
    )
    calls = [f"round {round}: {who}, {state}{_paren(outcome)}" for round, who, state, outcome in history.calls]
    return paragraphs(
        (f"Sample {sample.id}", about + excluded),
        ("Prompt", sample.prompt),
        ("Response", sample.response or ""),
        ("Dataset's labels", labels),
        *((f"Round {one.round}, {one.model} ({one.role})", _judgement(one)) for one in history.judgements),
        ("Picked", picked),
        ("Teacher calls", "\n".join(calls)),
        *(
            (f"Trace {one.id} by {one.teacher}", f"{verdicts(one.verdict)}: {one.explanation}")
            for one in history.traces
        ),
        ("Reviews", "\n".join(map(_review, history.reviews))),
        ("Trained on", "\n".join(f"{model}, {kind}" for model, kind in history.uses)),
        ("Left out", "\n".join(f"round {round}, {kind}: {reason}" for round, kind, reason in history.dropped)),
    )


def _judgement(judgement: Judgement) -> str:
    sure = "" if judgement.confidence is None else f"; confidence {judgement.confidence:.3f}"
    named = cell_words(judgement.cell, judgement.calibration_json, judgement.signals)
    cell = "" if judgement.cell is None else f", {named}"
    odds = ", ".join(f"{task} {p:.3f}" for task, p in judgement.probability.items())
    head = f"{verdicts(judgement.verdict)}; P(harm or refusal): {odds}{sure}{cell}"
    disagreements = [f"{name} {value:.3f}" for name, value in judgement.disagreements.items()]
    traces = [f"- {verdicts(verdict)}, mean confidence {mean:.2f}: {text}" for text, verdict, mean in judgement.traces]
    return "\n".join([head, *disagreements, *traces])


def _review(row: Review) -> str:
    return f"{row.decided_at.astimezone():%d %b %H:%M:%S} {row.decision} by {row.by}{_paren(row.reason)}"


def _paren(text: str | None) -> str:
    return f" ({text})" if text else ""
