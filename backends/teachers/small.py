"""The small answer, for a model that manages no more: verdicts and one short rationale. It becomes a TeacherTrace."""

from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator

from wizloop.backends.teachers.base import (
    OUR_WORDS,
    TASKS,
    Answer,
    Harm,
    InvalidTrace,
    Question,
    Refusal,
    TeacherTrace,
    Words,
    check_answer,
    form_of,
    parsed,
)
from wizloop.backends.teachers.reading import sentences, shortened

_REASON = ("rationale", "explanation", "reason", "reasoning")
"""Names that small models give the rationale; the first is asked for."""
_KEYS = (*_REASON, *TASKS, "categories")
MOST_STEPS = 10


class SmallTrace(BaseModel):
    """What a small model must give. A verdict on an answer that there is not is left out."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    rationale: Annotated[
        str,
        Field(
            min_length=1,
            max_length=4000,
            validation_alias=AliasChoices(*_REASON),
        ),
    ]
    request: Harm
    completion: Refusal | None = None
    response: Harm | None = None
    categories: tuple[str, ...] | None = None

    @field_validator("rationale", mode="before")
    @classmethod
    def _of_lines(cls, value: Any) -> Any:
        """Join a list of sentences, which small models write as often."""
        return " ".join(value) if isinstance(value, list) and all(isinstance(line, str) for line in value) else value

    def whole(self, question: Question) -> TeacherTrace:
        """Return the trace of this answer: its sentences are the steps of each task, and its confidence is medium."""
        steps = tuple(sentence[:600] for sentence in sentences(self.rationale)[:MOST_STEPS])
        judged = question.response is not None
        return TeacherTrace.model_construct(
            surface_analysis="",
            legitimate_uses=(),
            harmful_uses=(),
            context_clues="",
            risk_factors=(),
            mitigating_factors=(),
            request_steps=steps,
            completion_steps=steps if judged and self.completion is not None else (),
            response_steps=steps if judged and self.response is not None else (),
            explanation=shortened(self.rationale),
            confidence="medium",
            request=self.request,
            completion=self.completion if judged else None,
            response=self.response if judged else None,
            categories=self.categories,
        )


def answer_from_small(raw: str, question: Question, words: Words = OUR_WORDS, **known: Any) -> Answer:
    """Build the Answer of a complete small reply, as `base.answer_from_raw` does of a full one."""
    try:
        return Answer("ok", raw, trace=_read(raw, question, words), **known)
    except InvalidTrace as error:
        return Answer("invalid", raw, category=str(error), **known)


def _read(raw: str, question: Question, words: Words) -> TeacherTrace:
    """Parse the trace in a small answer. Raises InvalidTrace."""
    given: SmallTrace = parsed(form_of(SmallTrace, words), raw, _KEYS, words._asdict())
    trace = given.whole(question)
    check_answer(trace, question, "request", words)
    return trace
