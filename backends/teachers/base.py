"""The teacher interface: the question, the trace, and the closed set of outcomes.

No queue, budget or retry: a teacher answers one question once, and the loop decides what happens next.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple, Protocol, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from wizloop.backends.http.scrub import storable
from wizloop.backends.teachers.reading import LONGEST_LINE, MOST_EXPLAINED, Unreadable, object_in, shortened

Form = TypeVar("Form", bound=BaseModel)

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
    "account",
    "parameter",
]
OWN_FAULTS: tuple[Outcome, ...] = ("spend_limit", "unauthorised", "account_disabled", "account", "parameter")
"""Outcomes that are the teacher's fault and no sample's."""
Billed = Literal["yes", "no", "unknown"]
TASKS: tuple[Task, ...] = get_args(Task)


class Words(NamedTuple):
    """The label words of each task; an empty tuple is a task that is not judged. The default has our own words."""

    request: tuple[str, ...] = get_args(Harm)
    completion: tuple[str, ...] = get_args(Refusal)
    response: tuple[str, ...] = get_args(Harm)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that are judged."""
        return tuple(task for task in TASKS if getattr(self, task))

    @property
    def by_key(self) -> dict[str, tuple[str, ...]]:
        """The values of an answer's keys that are words: read in capitals too."""
        return {**self._asdict(), "confidence": ("low", "medium", "high")}

    def is_part_of_ours(self) -> bool:
        """Return whether each task that is judged has our own words."""
        return all(given in ((), ours) for given, ours in zip(self, OUR_WORDS, strict=True))


OUR_WORDS = Words()
OUTCOMES: Mapping[str | None, Outcome] = {name: name for name in get_args(Outcome)}
"""Outcomes by the text that a ledger or a file has."""

MAX_NAME = 600
"""Characters kept of a model's name, an id, a reason."""
MAX_TOKENS = 100_000_000
"""A count above it is no count: the call is charged at its worst."""
MAX_WAIT_S = 7 * 86_400.0
"""The longest wait that is believed, in seconds."""

Line = Annotated[str, Field(min_length=1, max_length=LONGEST_LINE)]
Lines = tuple[Line, ...]
Steps = Annotated[Lines, Field(max_length=10)]


class InvalidTrace(ValueError):
    """The teacher's answer is not a valid trace for this question."""


@dataclass(frozen=True)
class Question:
    """One sample, shown to a teacher as data.

    `key` is the hash of everything that decides the answer; `response` is None for a prompt alone; `labels` (task to
    label, or None) is given only when the recipe lets the teacher see them.
    """

    key: str
    prompt: str
    response: str | None = None
    labels: Mapping[str, str | None] | None = None
    complaint: str | None = None
    """What was wrong with the previous answer, when the question is asked again."""
    max_tokens: int | None = None
    """Limit of the answer's tokens, if it differs from the teacher's own."""


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
    explanation: Annotated[str, Field(min_length=1, max_length=MOST_EXPLAINED)]
    """The decisive reason in one short sentence: a tiny guard learns to write this before its verdict."""
    confidence: Literal["low", "medium", "high"]
    """The teacher's own word for how sure it is."""
    request: Harm
    completion: Refusal | None
    response: Harm | None
    categories: Annotated[Lines, Field(max_length=64)] | None = Field(
        default=None, exclude_if=lambda named: named is None
    )
    """Every category that applies, if a recipe asks for categories."""


@dataclass(frozen=True)
class Usage:
    """Tokens as the provider counted them; zero for a local teacher."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """Read from a cache; not counted in input_tokens."""
    cache_write_tokens: int = 0
    """Written into a cache; not counted in input_tokens."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the whole prompt, cached or not."""
        return self.input_tokens + self.cached_tokens + self.cache_write_tokens


@dataclass(frozen=True)
class Limits:
    """Remaining limits by a provider's headers; None if a header is missing. Resets in seconds from now."""

    requests_left: int | None = None
    requests_reset_s: float | None = None
    tokens_left: int | None = None
    tokens_reset_s: float | None = None


@dataclass(frozen=True)
class Answer:
    """A teacher's reply, whose texts and numbers can be stored, whatever came.

    `raw` is the answer as received; `trace` is set exactly when the outcome is ok. `category` is the kind of refusal,
    block or fault.
    """

    outcome: Outcome
    raw: str
    model: str
    trace: TeacherTrace | None = None
    usage: Usage = Usage()
    request_id: str | None = None
    stop_reason: str | None = None
    category: str | None = None
    billed: Billed = "yes"
    """unknown: it broke off after it was sent and may have been charged."""
    retry_after_s: float | None = None
    limits: Limits | None = None
    adapted: tuple[str, ...] = ()
    """What was changed in the request because the model does not take it."""

    def __post_init__(self) -> None:
        """Replace what no database takes: lone surrogates, long names, counts and waits that cannot be true."""
        short = {name: _short(getattr(self, name)) for name in ("model", "request_id", "stop_reason", "category")}
        counts = (getattr(self.usage, each.name) for each in fields(Usage))
        made = {**short, "raw": storable(self.raw), "usage": Usage(*map(_count, counts)), "model": short["model"] or ""}
        for name, value in (made | {"retry_after_s": _wait_s(self.retry_after_s)}).items():
            object.__setattr__(self, name, value)


class Teacher(Protocol):
    """Writes one trace for one question."""

    @property
    def name(self) -> str:
        """The name in the recipe."""

    @property
    def model(self) -> str:
        """The model that answers; part of a call's key."""

    @property
    def version(self) -> str:
        """Short name of everything else that decides its answers: instruction, schema, settings."""

    @property
    def free(self) -> bool:
        """Whether it costs nothing and always answers the same, so that it may be asked again after a crash."""

    def worst_usage(self, question: Question) -> Usage:
        """Return the most tokens that this question can take, in and out; zero for a local teacher."""

    def ask(self, question: Question) -> Answer:
        """Answer once, without a retry. Raises nothing that an Outcome covers."""

    def read(self, raw: str, stop_reason: str | None, question: Question) -> Answer:
        """Parse an answer that was stored as received, before a crash."""


class LocalTeacher:
    """Base of the teachers that run in this process: free, and their answers are JSON traces."""

    model: str
    free = True
    words: Words = OUR_WORDS
    """The label words of its traces."""

    def worst_usage(self, question: Question) -> Usage:
        """Return no tokens."""
        return Usage()

    def read(self, raw: str, stop_reason: str | None, question: Question) -> Answer:
        """Parse a stored answer."""
        return answer_from_raw(raw, question, self.words, model=self.model, stop_reason=stop_reason)


def _short(text: str | None) -> str | None:
    return None if text is None else storable(str(text)[:MAX_NAME])


def _count(value: int) -> int:
    return value if isinstance(value, int) and 0 <= value <= MAX_TOKENS else 0


def _wait_s(seconds: float | None) -> float | None:
    return None if seconds is None or seconds != seconds else min(max(seconds, 0.0), MAX_WAIT_S)


@lru_cache(maxsize=32)
def form_of(form: type[Form], words: Words) -> type[Form]:
    """Return a form of answers whose verdicts are these words; of a task that is not judged it asks for nothing."""
    if words == OUR_WORDS:
        return form
    fields: dict[str, Any] = {}
    for task, labels in words._asdict().items():
        said: Any = Literal[labels] if labels else None
        needed = ... if form.model_fields[task].is_required() and labels else None
        fields[task] = (said, ...) if task == "request" else (said | None if labels else None, needed)
        if not labels and f"{task}_steps" in form.model_fields:
            fields[f"{task}_steps"] = (tuple[()], ())
    return create_model(form.__name__, __base__=form, **fields)


def read_trace(raw: str, question: Question, words: Words = OUR_WORDS) -> TeacherTrace:
    """Parse the trace in a JSON answer; longer texts than allowed are shortened.

    Raises InvalidTrace for a wrong schema, wrong tasks or a contradicted label.
    """
    if not raw.strip():
        raise InvalidTrace("the answer is empty")
    form: type[TeacherTrace] = form_of(TeacherTrace, words)
    trace = parsed(form, raw, TeacherTrace.model_fields, words.by_key, _short_enough)
    check_answer(trace, question, "surface_analysis", words)
    return trace


def _short_enough(found: dict[str, Any]) -> dict[str, Any]:
    """Shorten the texts of an answer to whole sentences: one that was paid for is not lost to a long line."""
    return {
        name: _shortened(value, MOST_EXPLAINED if name == "explanation" else LONGEST_LINE)
        for name, value in found.items()
    }


def _shortened(value: Any, most: int) -> Any:
    if isinstance(value, list):
        return [_shortened(one, most) for one in value]
    return shortened(value, most) if isinstance(value, str) and len(value) > most else value


def parsed(
    form: type[Form],
    raw: str,
    keys: Collection[str],
    words: Mapping[str, tuple[str, ...]],
    tidy: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> Form:
    """Parse the one JSON object in an answer that has these keys, tidied. Raises InvalidTrace with the first fault."""
    try:
        found = object_in(raw, keys, words)
        return form.model_validate_json(raw if found is None else json.dumps(tidy(found)))
    except Unreadable as error:
        raise InvalidTrace(str(error)) from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the answer"
        raise InvalidTrace(f"{place}: {first['msg']}") from None


def check_answer(trace: TeacherTrace, question: Question, key: str, words: Words = OUR_WORDS) -> None:
    """Check a trace as `check_trace` does, and refuse an answer that the sample brought along, which shows by `key`."""
    check_trace(trace, question, words)
    sample = f"{question.prompt}\0{question.response or ''}"
    if f'"{key}"' in sample and trace.explanation in sample:
        raise InvalidTrace("it repeats an answer that stands in the sample")


def check_trace(trace: TeacherTrace, question: Question, words: Words = OUR_WORDS) -> None:
    """Raise InvalidTrace if the trace does not fit the question's response or contradicts a shown label."""
    has_response, tasks = question.response is not None, words.tasks[1:]
    decided = [part for task in tasks for part in (getattr(trace, task), getattr(trace, f"{task}_steps") or None)]
    if any((part is not None) != has_response for part in decided):
        named = " and ".join(tasks)
        raise InvalidTrace(
            f"{named} need a verdict and steps" if has_response else f"{named} must be empty: there is no response"
        )
    check_labels(trace, question)


def check_labels(trace: TeacherTrace, question: Question) -> None:
    """Raise InvalidTrace if the trace contradicts a shown label."""
    for task in TASKS:
        label = (question.labels or {}).get(task)
        if label is not None and label != getattr(trace, task):
            raise InvalidTrace(f"{task}: the trace says {getattr(trace, task)}, the label says {label}")


def answer_from_raw(raw: str, question: Question, words: Words = OUR_WORDS, **known: Any) -> Answer:
    """Build the Answer of a complete reply: ok with its trace, or invalid with the reason as category.

    `known` are other fields of the Answer, such as model and usage.
    """
    try:
        return Answer("ok", raw, trace=read_trace(raw, question, words), **known)
    except InvalidTrace as error:
        return Answer("invalid", raw, category=str(error), **known)
