"""A free teacher that gives back reasoning that exists already, as it stands. Writes nothing of its own.

A text without reasoning is blocked, and so is one whose reasoning a check refuses, with the reason.
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, ValidationError

from wizloop.backends.teachers.base import (
    OUR_WORDS,
    TASKS,
    Answer,
    InvalidTrace,
    Lines,
    LocalTeacher,
    Question,
    Steps,
    TeacherTrace,
    Words,
    check_labels,
    form_of,
)
from wizloop.backends.teachers.recorded import text_sha

NOT_GIVEN = "no reasoning is given for this text"
Prose = Annotated[str, Field(max_length=2000)]


class GivenTrace(TeacherTrace):
    """Reasoning that somebody else wrote: whatever it does not hold is empty, and only some tasks may have steps."""

    surface_analysis: Prose = ""
    legitimate_uses: Lines = ()
    harmful_uses: Lines = ()
    context_clues: Prose = ""
    risk_factors: Lines = ()
    mitigating_factors: Lines = ()
    request_steps: Steps = ()
    completion_steps: Steps = ()
    response_steps: Steps = ()
    origin: Annotated[str, Field(min_length=1)]
    """The file and row."""


class GivenTeacher(LocalTeacher):
    """A Teacher over traces as JSON, by text_sha, and over the reasons why a text's reasoning was refused."""

    name = "traces"
    version = "1"

    def __init__(
        self, model: str, traces: Mapping[str, str], refused: Mapping[str, str], words: Words = OUR_WORDS
    ) -> None:
        self.model, self.words = model, words
        self._traces, self._refused = traces, refused

    def ask(self, question: Question) -> Answer:
        """Return the reasoning on a text, or blocked. A prompt alone also takes the request's part of a pair's."""
        key = text_sha(question.prompt, question.response)
        raw = self._traces.get(key)
        if raw is None:
            return Answer("blocked", "", self.model, category=self._refused.get(key, NOT_GIVEN))
        return self.read(raw, "end", question)

    def read(self, raw: str, stop_reason: str | None, question: Question) -> Answer:
        """Check a trace against the question, as every teacher's answer is."""
        try:
            trace = form_of(GivenTrace, self.words).model_validate_json(raw)
            check_given(trace, question, self.words)
        except ValidationError as error:
            return Answer("blocked", raw, self.model, category=first_fault(error))
        except InvalidTrace as error:
            return Answer("blocked", raw, self.model, category=str(error))
        return Answer("ok", raw, self.model, trace, stop_reason=stop_reason)


def check_given(trace: GivenTrace, question: Question, words: Words = OUR_WORDS) -> None:
    """Raise InvalidTrace for a trace without a step, or with other verdicts than the question has tasks or labels."""
    tasks = words.tasks if question.response is not None else TASKS[:1]
    for task in TASKS:
        if (getattr(trace, task) is not None) != (task in tasks):
            raise InvalidTrace(f"{task}: {'it has no verdict' if task in tasks else 'there is no response'}")
    if not any(getattr(trace, f"{task}_steps") for task in tasks):
        raise InvalidTrace("it has a verdict and no reasoning")
    check_labels(trace, question)


def first_fault(error: ValidationError) -> str:
    """Return the first thing that a schema refuses, in one sentence."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "the trace"
    return f"{place}: {first['msg']}"
