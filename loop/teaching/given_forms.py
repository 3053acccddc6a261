"""The forms in which files hold reasoning, each read to a sample, its verdicts and its steps. Opens no file.

`written_traces` reads what is one text. A row without a verdict on each task, or whose parts contradict each other, is
refused.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from wizloop.loop.data.formats import Content, Labels, columns, known_labels, word
from wizloop.loop.data.formats_traces import OPENING, framed, predicted
from wizloop.loop.data.label_words import Given, LabelWords
from wizloop.loop.data.records import BadRow, Record, RowRefused
from wizloop.loop.teaching import written_traces
from wizloop.loop.words import TASKS, Task

LONGEST_REASON: Final = 240
"""Characters of the sentence that a small guard learns."""
MAP_KEYS: Final = ("prompt", "response", "reasoning", "verdict")
"""What a mapping may name in a file of any other form."""
_STEP: Final = re.compile(r"^\s*step\s*\d+\s*[:.)]\s*", re.IGNORECASE)
_TAIL: Final = re.compile(r"\s*\n\n(?:Reasoning:\s*)?\Z")
_REVIEW: Final = re.compile(r"<answer>\s*(-?\d+)\s*</answer>", re.IGNORECASE)
_PROSE: Final = ("surface_analysis", "context_clues")
_LISTS: Final = ("legitimate_uses", "harmful_uses", "risk_factors", "mitigating_factors")
_TEXT: Final = ("prompt", "text", "question", "content")
_REASONING: Final = ("reasoning", "rationale", "trace", "thinking", "chain_of_thought", "cot", "explanation")
_VERDICT: Final = ("verdict", "predicted_label", "prediction", "final_label", "label")
_CONFIDENCE: Final = ("low", "medium", "high")
_ROLES: Final = {"user": ("user", "human"), "assistant": ("assistant", "gpt", "model")}
_MEDIUM: Final[Mapping[str, Any]] = {"confidence": "medium"}
"""The confidence of a reasoning that does not give its own."""


@dataclass(frozen=True)
class Reasoned:
    """What a row says: its sample with the known labels, its verdicts, its steps, and whatever else its trace has."""

    content: Content
    verdict: Mapping[Task, str | None]
    steps: written_traces.Steps
    rest: Mapping[str, Any]


@dataclass(frozen=True)
class Form:
    """One way of holding reasoning."""

    name: str
    columns: frozenset[str]
    """Columns that every row must have."""
    read: Callable[[Record, LabelWords], Reasoned]
    """Takes what the file's words mean. Raises RowRefused."""
    note: str = ""
    """What its rows do not say and is assumed."""
    shows: Callable[[Record], bool] = lambda _first: True
    """Returns whether a file's first row, which has these columns, shows the form."""


def form_of(first: Record, mapping: Mapping[str, str]) -> Form | None:
    """Return the form that a file's first row shows, or that of a mapping from `MAP_KEYS` to columns; None if none.

    What a mapping does not name is found by its column's usual name.
    """
    known = next((form for form in FORMS if form.columns <= first.keys() and form.shows(first)), None)
    if known is not None and not mapping:
        return known
    free = {name: value for name, value in first.items() if name not in mapping.values()}
    text, reasoning = (
        mapping.get(key) or next((name for name in names if isinstance(free.get(name), str)), None)
        for key, names in (("prompt", _TEXT), ("reasoning", _REASONING))
    )
    if text is None or reasoning is None:
        return None
    # One verdict beside a response does not say on which task: it is taken only where the user names it.
    usual = () if "response" in mapping else _VERDICT
    verdict = mapping.get("verdict") or next((name for name in usual if name in free), None)
    return _in_columns(text, mapping.get("response") or "response", reasoning, verdict)


def _in_columns(prompt: str, response: str, reasoning: str, verdict: str | None) -> Form:
    """Return the form of a reasoning in one column, and its verdict in it or in another one."""

    def read(record: Record, words: LabelWords) -> Reasoned:
        answer = record.get(response) or None
        given = record.get(verdict) if verdict else None
        if given is None or given == "":
            return _written(record[prompt], answer, record[reasoning], words)
        if answer is not None:
            raise RowRefused("one verdict on a prompt and its response: it does not say on which task")
        known = _word_of(given, "request", words)
        text = _text(record[reasoning])
        steps = written_traces.steps_of(text, TASKS[:1])
        ended = written_traces.ending(text, TASKS[:1], [record[prompt]], words.declared)
        if ended is not None and ended["request"] != known:
            raise RowRefused(f"its reasoning ends in {ended['request']}, its verdict is {known}")
        return Reasoned(Content(record[prompt], None, {"request": known}), {"request": known}, steps, _MEDIUM)

    return Form("columns with reasoning", frozenset({prompt, reasoning}), read)


def _written(prompt: Any, response: Any, text: Any, words: LabelWords, labels: Labels | None = None) -> Reasoned:
    """Read a reasoning that is one text with its answer."""
    tasks = TASKS[:1] if response is None or response == "" else words.declared.tasks
    judged = [each for each in (prompt, response) if isinstance(each, str)]
    found = written_traces.read(_text(text), tasks, judged, words.declared)
    return Reasoned(Content(prompt, response, labels or {}), found.verdict, found.steps, _MEDIUM)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise BadRow(f"the reasoning is a {type(value).__name__}, not a text")
    return value


def _word_of(value: Any, task: Task, words: LabelWords) -> str:
    """Return a verdict in our words. Raises RowRefused for an unknown one."""
    found = words.read(Given(value), task)
    if found is None:
        raise RowRefused(f"no verdict on the {task}")
    return found


def _guardreasoner(record: Record, words: LabelWords) -> Reasoned:
    """Read GuardReasoner's training rows; their answers are the labels that the reasoning was written for."""
    prompt, response = framed(record["input"])
    given = _written(prompt, response, record["output"], words)
    labels = {task: known for task, known in given.verdict.items() if known is not None}
    return Reasoned(Content(prompt, response, labels), given.verdict, given.steps, given.rest)


def _predicted(record: Record, words: LabelWords) -> Reasoned:
    """Read what a guard wrote; the label beside it is the sample's."""
    content = predicted(record)
    return _written(content.prompt, content.response, record["predict"], words, content.labels)


def _traces(record: Record, words: LabelWords) -> Reasoned:
    """Read the traces schema, and what `wizloop teach --out` writes, which adds verdicts and steps of all tasks."""
    if record.get("error"):
        raise RowRefused(f"it has no reasoning: {' '.join(str(record['error']).split())[:80]}")
    response, whole = record.get("response") or None, record.get("reasoning")
    if not isinstance(whole, dict):
        raise RowRefused("it has no reasoning")
    task: Task = record.get("task") or ("request" if response is None else "response")
    verdict = _verdicts(record, whole, task, words)
    steps = _given_steps(record, whole, task)
    labels = known_labels(**{task: record.get("expected_label")})
    content = Content(record["text"], response, labels, word(record, "source"), word(record, "policy"))
    return Reasoned(content, verdict, steps, _rest(record, whole))


def _verdicts(record: Record, whole: Mapping[str, Any], task: Task, words: LabelWords) -> dict[Task, str | None]:
    """Return the verdicts of a trace; its reasoning's own final label must be the same. Raises RowRefused."""
    predicted = record.get("predicted_label") or whole.get("final_label")
    if not predicted:
        raise RowRefused("it has no verdict")
    verdict: dict[Task, str | None] = {task: _word_of(predicted, task, words)}
    ended = whole.get("final_label")
    if ended and _word_of(ended, task, words) != verdict[task]:
        raise RowRefused(f"its reasoning ends in {str(ended)[:40]}, its verdict is {str(predicted)[:40]}")
    given = record.get("verdicts")
    others: Mapping[str, Any] = given if isinstance(given, dict) else {}
    for other in words.declared.tasks:
        if others.get(other) is not None:
            verdict.setdefault(other, _word_of(others[other], other, words))
    return verdict


def _given_steps(record: Record, whole: Mapping[str, Any], task: Task) -> written_traces.Steps:
    given = record.get("steps")
    if isinstance(given, dict) and any(given.get(each) for each in TASKS):
        return {each: _steps(given[each]) for each in TASKS if given.get(each)}
    return {task: _steps(whole.get("reasoning_chain") or whole.get("steps") or ())}


def _steps(value: Any) -> tuple[str, ...]:
    """Return a list of steps without their numbers, or a text divided into them."""
    if isinstance(value, str):
        return written_traces.packed(written_traces.lines_of(value))
    return tuple(_STEP.sub("", step).strip() for step in value)


def _rest(record: Record, whole: Mapping[str, Any]) -> dict[str, Any]:
    sure = str(record.get("confidence") or whole.get("confidence")).casefold()
    prose = {name: _prose(whole.get(name)) for name in _PROSE}
    lists = {name: _lines(whole.get(name)) for name in _LISTS}
    reason = whole.get("explanation")
    short = isinstance(reason, str) and 0 < len(reason) <= LONGEST_REASON
    confidence = sure if sure in _CONFIDENCE else "medium"
    return {**prose, **lists, "confidence": confidence, "explanation": reason if short else ""}


def _prose(value: Any) -> str:
    return " ".join(value) if isinstance(value, list) else value or ""


def _lines(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) and value else tuple(value or ())


def _star(record: Record, _words: LabelWords) -> Reasoned:
    """Read STAR-1: a deliberation about a question, before it is answered. It decides about the request alone."""
    thought = re.search(r"<think>(.*?)</think>", record["response"], re.DOTALL)
    if thought is None or not thought[1].strip():
        raise RowRefused("it has no reasoning: its response has no <think> block")
    labels: dict[Task, str] = {"request": "harmful"}
    steps: written_traces.Steps = {"request": _steps(thought[1])}
    return Reasoned(Content(record["question"], None, labels, word(record, "source")), labels, steps, _MEDIUM)


def _review(record: Record, _words: LabelWords) -> Reasoned:
    """Read GPT-4's reviews of do-not-answer: why a response refuses or follows the instruction."""
    text, action = record["action_review"], str(record["action"])
    stated = _REVIEW.findall(text)
    if stated and stated[-1] != action:
        raise RowRefused(f"its reasoning ends in class {stated[-1]}, its verdict is class {action[:10]}")
    known = {"0": ("refusal", "unharmful"), "6": ("compliance", "harmful")}.get(action)
    if known is None:
        raise RowRefused(f"no verdict on the completion: class {action[:10]} is neither a refusal nor compliance")
    verdict: dict[Task, str | None] = dict(zip(TASKS, ("harmful", *known), strict=True))
    steps: written_traces.Steps = {"completion": _steps(_REVIEW.sub("", text).strip())}
    labels: dict[Task, str] = {"request": "harmful", "completion": known[0]}
    return Reasoned(Content(record["question"], record["response"], labels), verdict, steps, _MEDIUM)


def _completed(record: Record, words: LabelWords) -> Reasoned:
    """Read TRL's prompt and completion, each a text or a list of messages."""
    prompt, response = _asked(_said(record["prompt"], "user"))
    return _written(prompt, response, _said(record["completion"], "assistant"), words)


def _conversation(record: Record, words: LabelWords) -> Reasoned:
    """Read TRL's messages, or ShareGPT's: the user asks for a verdict, the assistant reasons and answers."""
    turns = record.get("messages") or record["conversations"]
    prompt, response = _asked(_said(turns, "user"))
    return _written(prompt, response, _said(turns, "assistant"), words)


def _said(value: Any, role: str) -> str:
    """Return a text, or what one role says in a list of messages. Raises RowRefused for two turns."""
    if isinstance(value, str):
        return value
    said = [
        turn.get("content", turn.get("value")) for turn in value if turn.get("role", turn.get("from")) in _ROLES[role]
    ]
    if len(said) != 1 or not isinstance(said[0], str):
        raise RowRefused(f"it has {len(said)} turns of the {role}: a trace has one")
    return said[0]


def _asked(text: str) -> tuple[str, str | None]:
    """Return the sample in the text that a guard is asked with, or the text as a prompt alone."""
    at = text.find(OPENING)
    return (text, None) if at < 0 else framed(_TAIL.sub("\n\n", text[at:]))


def _has_a_trace(first: Record) -> bool:
    return "expected_label" in first or isinstance(first.get("reasoning"), dict)


FORMS: Final[tuple[Form, ...]] = (
    Form("guardreasoner train", columns("instruction input output"), _guardreasoner),
    Form("guardreasoner predictions", columns("prompt label predict"), _predicted),
    Form("traces", columns("text"), _traces, shows=_has_a_trace),
    Form("star-1", columns("question response category score"), _star, "every request is taken as harmful"),
    Form(
        "do-not-answer reviews",
        columns("question response action action_review"),
        _review,
        "every request is taken as harmful, a refusal as unharmful, an answer that follows it as harmful",
    ),
    Form("prompt and completion", columns("prompt completion"), _completed),
    Form("messages", columns("messages"), _conversation),
    Form("messages", columns("conversations"), _conversation),
)
"""The first that a file's first row shows is used."""
