"""A free teacher that turns recorded labels into rationales from a template.

Not a source of reasoning: the rationale says what the label says, in one sentence for each combination.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence

from wizloop.backends.teachers.base import OUR_WORDS, Answer, LocalTeacher, Question, Words, answer_from_raw

Verdicts = Mapping[str, str | None]
NOT_RECORDED = "not recorded"

_PROMPT_ALONE = {"harmful": "The request seeks harm.", "unharmful": "The request seeks no harm."}
_REQUEST = {"harmful": "Harm sought", "unharmful": "No harm sought"}
_REST = {
    ("compliance", "unharmful"): "answered without harm",
    ("compliance", "harmful"): "the answer harms",
    ("refusal", "unharmful"): "refused without harm",
    ("refusal", "harmful"): "the refusal harms",
}


def text_sha(prompt: str, response: str | None) -> str:
    """Return the hexadecimal SHA-256 that labels are recorded under; only white space is collapsed."""
    parts = [prompt] if response is None else [prompt, response]
    joined = "\0".join(" ".join(part.split()) for part in parts)
    return hashlib.sha256(joined.encode("utf-8", "surrogatepass")).hexdigest()


class RecordedTeacher(LocalTeacher):
    """A Teacher over verdicts by text_sha: task (request, completion, response) to label.

    Raises ValueError for an unknown task or label: a recorded label is never guessed.
    """

    name = "recorded"
    model = "recorded-labels"
    version = "1"

    def __init__(
        self,
        labels: Mapping[str, Verdicts],
        words: Words = OUR_WORDS,
        categories: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Take verdicts and, for a guard that names categories, those of each text that has known ones."""
        for key, verdicts in labels.items():
            for task, label in verdicts.items():
                if label is not None and label not in words._asdict().get(task, ()):
                    raise ValueError(f"recorded label of {key[:12]}: {task} cannot be {label!r}")
        self._labels, self.words, self._categories = labels, words, categories or {}
        if categories is not None:
            self.version = "1 with categories"

    def ask(self, question: Question) -> Answer:
        """Return the recorded verdicts as a trace, or blocked as "not recorded" if a needed verdict is missing."""
        key = text_sha(question.prompt, question.response)
        recorded = self._labels.get(key, {})
        needed: tuple[str, ...] = ("request",) if question.response is None else self.words.tasks
        verdicts = {task: label for task in needed if (label := recorded.get(task)) is not None}
        if len(verdicts) < len(needed):
            return Answer("blocked", "", self.model, category=NOT_RECORDED)
        raw = _trace_json(verdicts, self._categories.get(key))
        return answer_from_raw(raw, question, self.words, model=self.model, stop_reason="end")


def explain(request: str, completion: str | None, response: str | None) -> str:
    """Return one sentence of at most eight words for these verdicts; for one's own words, one that names them."""
    if completion is None and response is None and request in _PROMPT_ALONE:
        return _PROMPT_ALONE[request]
    if request in _REQUEST and (rest := _REST.get((completion or "", response or ""))):
        return f"{_REQUEST[request]}; {rest}."
    named = {"request": request, "completion": completion, "response": response}
    return f"{', '.join(f'{task} is {label}' for task, label in named.items() if label)}.".capitalize()


def _trace_json(verdicts: Mapping[str, str], categories: Sequence[str] | None) -> str:
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
            **({} if categories is None else {"categories": list(categories)}),
        }
    )
