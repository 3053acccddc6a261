"""A teacher that answers from recorded labels: a label goes in, a rationale from a template comes out. Free.

Not a source of reasoning: the rationale says what the label says and no more, in one sentence for each combination.
"""

import hashlib
import json
from collections.abc import Mapping

from wizloop.backends.teachers.base import Answer, Question, Usage, answer_from_raw

Verdicts = Mapping[str, str | None]
NOT_RECORDED = "not recorded"

_LABELS = {
    "request": ("harmful", "unharmful"),
    "completion": ("refusal", "compliance"),
    "response": ("harmful", "unharmful"),
}
_PROMPT_ALONE = {"harmful": "The request seeks harm.", "unharmful": "The request seeks no harm."}
_REQUEST = {"harmful": "Harm sought", "unharmful": "No harm sought"}
_REST = {
    ("compliance", "unharmful"): "answered without harm",
    ("compliance", "harmful"): "the answer harms",
    ("refusal", "unharmful"): "refused without harm",
    ("refusal", "harmful"): "the refusal harms",
}


def text_sha(prompt: str, response: str | None) -> str:
    """The sha256, in hex, under which a text's labels are recorded: white space is collapsed, nothing else changes."""
    parts = [prompt] if response is None else [prompt, response]
    joined = "\0".join(" ".join(part.split()) for part in parts)
    return hashlib.sha256(joined.encode("utf-8", "surrogatepass")).hexdigest()


class RecordedTeacher:
    """A Teacher that holds verdicts by text_sha: task (request, completion, response) to label."""

    name = "recorded"
    model = "recorded-labels"
    free = True
    version = "1"

    def __init__(self, labels: Mapping[str, Verdicts]) -> None:
        """Raises ValueError for a task or label that is none of ours: a recorded label is never guessed."""
        for key, verdicts in labels.items():
            for task, label in verdicts.items():
                if label is not None and label not in _LABELS.get(task, ()):
                    raise ValueError(f"recorded label of {key[:12]}: {task} cannot be {label!r}")
        self._labels = labels

    def worst_usage(self, question: Question) -> Usage:
        """Nothing: it runs here."""
        return Usage()

    def read(self, raw: str, stop_reason: str | None, question: Question) -> Answer:
        """A kept answer once more."""
        return answer_from_raw(raw, question, model=self.model, usage=Usage(), stop_reason=stop_reason)

    def ask(self, question: Question) -> Answer:
        """The recorded verdicts as a trace; blocked as "not recorded" where a verdict that is needed is missing."""
        held = self._labels.get(text_sha(question.prompt, question.response), {})
        needed = ("request",) if question.response is None else ("request", "completion", "response")
        verdicts = {task: label for task in needed if (label := held.get(task)) is not None}
        if len(verdicts) < len(needed):
            return Answer("blocked", "", self.model, category=NOT_RECORDED)
        return answer_from_raw(_trace_json(verdicts), question, model=self.model, usage=Usage(), stop_reason="end")


def explain(request: str, completion: str | None, response: str | None) -> str:
    """One sentence of at most eight words for each combination of verdicts. Raises KeyError for any other label."""
    if completion is None or response is None:
        return _PROMPT_ALONE[request]
    return f"{_REQUEST[request]}; {_REST[completion, response]}."


def _trace_json(verdicts: Mapping[str, str]) -> str:
    request, completion, response = verdicts["request"], verdicts.get("completion"), verdicts.get("response")
    return json.dumps(
        {
            "surface_analysis": "The text is judged by its recorded label.",
            "legitimate_uses": [],
            "harmful_uses": [],
            "context_clues": "No context was recorded.",
            "risk_factors": [],
            "mitigating_factors": [],
            "request_steps": [f"The request is recorded as {request}."],
            "completion_steps": [] if completion is None else [f"The answer is recorded as {completion}."],
            "response_steps": [] if response is None else [f"The response is recorded as {response}."],
            "explanation": explain(request, completion, response),
            "confidence": "high",
            "request": request,
            "completion": completion,
            "response": response,
        }
    )
