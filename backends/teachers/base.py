"""What every teacher is: the question it gets, the trace it writes, the closed set of outcomes it may return.

Not a queue, a budget or a retry: a teacher answers one question once, and the loop decides what happens next.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Harm = Literal["harmful", "unharmful"]
Refusal = Literal["refusal", "compliance"]
Task = Literal["request", "completion", "response"]
Outcome = Literal[
    "ok",
    "truncated",
    "refused",
    "blocked",
    "invalid",
    "overloaded",
    "rate_limited",
    "spend_limit",
    "unauthorised",
    "account_disabled",
]
Billed = Literal["yes", "no", "unknown"]
TASKS: tuple[Task, ...] = get_args(Task)
OUTCOMES: Mapping[str | None, Outcome] = {name: name for name in get_args(Outcome)}
"""By the text that a ledger or a file has of each."""

Line = Annotated[str, Field(min_length=1, max_length=600)]
Lines = tuple[Line, ...]
Steps = Annotated[Lines, Field(max_length=10)]


class InvalidTrace(ValueError):
    """The teacher's answer is not a trace that this question can use."""


@dataclass(frozen=True)
class Question:
    """One sample, put to a teacher as data.

    `key` is the hash of everything that decides the answer; `response` is None for a prompt alone; `labels` (task to
    label, None where a task has none) is given only when the recipe lets the teacher see them.
    """

    key: str
    prompt: str
    response: str | None = None
    labels: Mapping[str, str | None] | None = None
    complaint: str | None = None
    """What was wrong with the answer before, when the question is asked once more."""
    max_tokens: int | None = None
    """The most tokens that the answer may have, where it is not what the teacher allows every answer."""


class TeacherTrace(BaseModel):
    """A written policy rationale with the verdicts last, so that a model writes its reasons before it decides."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    surface_analysis: Line
    """What the text says when it is read plainly."""
    legitimate_uses: Lines
    """Why somebody with good intent might ask this; may be empty."""
    harmful_uses: Lines
    """What somebody with bad intent would gain; may be empty."""
    context_clues: Line
    """What the wording tells about purpose, audience or framing."""
    risk_factors: Lines
    """What speaks for harm; may be empty."""
    mitigating_factors: Lines
    """What speaks against harm; may be empty."""
    request_steps: Annotated[Steps, Field(min_length=1)]
    """Reasoning on the request, 1 to 10 small steps."""
    completion_steps: Steps
    """Reasoning on refusal or compliance; empty exactly when there is no response."""
    response_steps: Steps
    """Reasoning on the response; empty exactly when there is no response."""
    explanation: Annotated[str, Field(min_length=1, max_length=240)]
    """The decisive reason in one short sentence: a tiny guard learns to write this before its verdict."""
    confidence: Literal["low", "medium", "high"]
    """The teacher's own word for how sure it is."""
    request: Harm
    completion: Refusal | None
    response: Harm | None


@dataclass(frozen=True)
class Usage:
    """Tokens as the provider counted them; zero for a teacher that runs here."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """Read from a cache; not counted in input_tokens."""
    cache_write_tokens: int = 0
    """Written into a cache; not counted in input_tokens."""


@dataclass(frozen=True)
class Limits:
    """What a provider's headers say is left of its limits; None where they do not say. Resets in seconds from now."""

    requests_left: int | None = None
    requests_reset_s: float | None = None
    tokens_left: int | None = None
    tokens_reset_s: float | None = None


@dataclass(frozen=True)
class Answer:
    """What came back. `raw` is the answer as received and `trace` is set exactly when the outcome is ok.

    `category` says which kind of refusal, block or fault it was; `cost_micro` is zero, for the loop prices usage.
    """

    outcome: Outcome
    raw: str
    model: str
    trace: TeacherTrace | None = None
    usage: Usage = Usage()
    cost_micro: int = 0
    request_id: str | None = None
    stop_reason: str | None = None
    category: str | None = None
    billed: Billed = "yes"
    """unknown: it broke off after it was sent, and nobody knows whether it was charged."""
    retry_after_s: float | None = None
    limits: Limits | None = None


class Teacher(Protocol):
    """Writes one trace for one question."""

    @property
    def name(self) -> str:
        """The name the recipe uses."""

    @property
    def model(self) -> str:
        """Which model answers; part of the key of a call."""

    @property
    def version(self) -> str:
        """What else than the model decides its answers (instruction, schema, settings), by a short name."""

    @property
    def free(self) -> bool:
        """Whether it costs nothing and answers alike each time, so that it may be asked again after a crash."""

    def worst_usage(self, question: Question) -> Usage:
        """The most tokens that this question can take, in and out; all zero for a teacher that runs here."""

    def ask(self, question: Question) -> Answer:
        """Answer once: no retry, and no exception for anything that Outcome has a word for."""

    def read(self, raw: str, stop_reason: str | None, question: Question) -> Answer:
        """An answer that was kept as it came and not read before a crash."""


def read_trace(raw: str, question: Question) -> TeacherTrace:
    """The trace in a JSON answer. Raises InvalidTrace for a wrong schema, wrong tasks or a contradicted label."""
    try:
        trace = TeacherTrace.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the answer"
        raise InvalidTrace(f"{place}: {first['msg']}") from None
    check_trace(trace, question)
    return trace


def check_trace(trace: TeacherTrace, question: Question) -> None:
    """Raises InvalidTrace where the trace does not fit the question's response or contradicts a shown label."""
    has_response = question.response is not None
    decided = (trace.completion, trace.response, trace.completion_steps or None, trace.response_steps or None)
    if any((part is not None) != has_response for part in decided):
        raise InvalidTrace(
            "completion and response need a verdict and steps"
            if has_response
            else "completion and response must be empty: there is no response"
        )
    for task in TASKS:
        label = (question.labels or {}).get(task)
        if label is not None and label != getattr(trace, task):
            raise InvalidTrace(f"{task}: the trace says {getattr(trace, task)}, the label says {label}")


def answer_from_raw(
    raw: str,
    question: Question,
    *,
    model: str,
    usage: Usage,
    cost_micro: int = 0,
    request_id: str | None = None,
    stop_reason: str | None = None,
) -> Answer:
    """The Answer for a reply that came back whole: ok with its trace, or invalid with the reason as category."""
    outcome: Outcome = "ok"
    trace: TeacherTrace | None = None
    category: str | None = None
    try:
        trace = read_trace(raw, question)
    except InvalidTrace as error:
        outcome, category = "invalid", str(error)
    return Answer(outcome, raw, model, trace, usage, cost_micro, request_id, stop_reason, category)
