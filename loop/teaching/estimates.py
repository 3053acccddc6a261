"""The likely cost of questions to a teacher, by earlier bills or by typical lengths. Not a bound.

The amount reserved for a call is its bound (`calls.TeacherClient.worst_micro`); nothing here is reserved.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wizloop.backends.teachers import prompt as teacher_prompt
from wizloop.backends.teachers.base import Question, Usage
from wizloop.backends.teachers.prompt import Length
from wizloop.backends.teachers.remote import Access, RemoteTeacher
from wizloop.loop.teaching.calls import TeacherClient
from wizloop.store.costs import Billed

BYTES_PER_TOKEN = {"claude": 3.5, "gemini": 4.0, "openai": 4.0}
"""Characters of English text, by the providers' own pages (Anthropic's glossary, Google's and OpenAI's pages on
tokens). A text in another script has more tokens per character, and as many more bytes: three in most of them."""
ANSWER_BYTES = 1450
"""An answer about a prompt alone. One answer in these fields by a provider's model is on record (gemini-3-pro-preview,
in the history of the repository wizard101): 1,432 bytes as compact JSON, 1,467 with blanks."""
TASK_BYTES = 360
"""What each of the two tasks adds that only a sample with a response has: 2.7 steps, as in GuardReasoner's recorded
outputs, of 134 characters, as in its training data (arXiv:2501.18492)."""
STEP_BYTES = 134
MORE_STEPS: Mapping[Length, float] = {"short": 1.5 - 2.7, "medium": 0.0, "long": 7.5 - 2.7}
"""Steps on a task beyond 2.7, by what the instruction asks for."""
SMALL_STEPS: Mapping[Length, float] = {"short": 1, "medium": 1.5, "long": 6.5}
"""Sentences of the one rationale in a small answer, as the instruction asks for."""
LABEL_BYTES = 25
"""A label and its key."""


@dataclass(frozen=True, slots=True)
class Load:
    """The total size of questions to be asked."""

    questions: float
    text_bytes: float
    """UTF-8 bytes of the samples' texts."""
    pairs: float
    """Questions whose sample has a response."""
    turns: int = 1
    """How often the teacher is asked after a pause that no cache survives: once per round."""

    def __add__(self, more: "Load") -> "Load":
        sums = (self.questions + more.questions, self.text_bytes + more.text_bytes, self.pairs + more.pairs)
        return Load(*sums, self.turns + more.turns)

    def share(self, part: float) -> "Load":
        """Return a part of these questions, of the same kind."""
        return Load(part * self.questions, part * self.text_bytes, part * self.pairs, self.turns)


def load_of(asked: Sequence[Question]) -> Load:
    """Return the load of these questions, asked in one turn."""
    sizes = [_bytes(one.prompt) + _bytes(one.response or "") for one in asked]
    return Load(len(asked), sum(sizes), sum(one.response is not None for one in asked))


@dataclass(frozen=True, slots=True)
class Expected:
    """The likely usage and cost of questions."""

    questions: int
    input_tokens: int
    """Of the whole prompts, cached or not."""
    output_tokens: int
    usd: float | None
    """None if the price is unknown."""
    measured: int
    """Earlier questions that the estimate rests on; 0 if it rests on typical lengths."""
    rests_on: str
    """The same in words."""


def nothing(questions: int) -> Expected:
    """Return the cost of questions to a local teacher."""
    return Expected(questions, 0, 0, 0.0, 0, "it runs here and costs nothing")


def expected(client: TeacherClient, load: Load, past: Billed | None, *, paid: bool) -> Expected:
    """Estimate what a load will take of a remote teacher. `past` is what its earlier calls were billed."""
    usage, calls = _typical(client, load) if past is None else _as_before(client, load, past)
    usd = None if paid else 0.0
    if client.tariff is not None:
        usd = client.tariff.total_micro(usage, calls, batch=client.discounted) / 1e6
    measured = 0 if past is None else past.questions
    rests_on = _rests_on(measured, cached=usage.cached_tokens > 0)
    return Expected(round(load.questions), usage.prompt_tokens, usage.output_tokens, usd, measured, rests_on)


def _rests_on(measured: int, *, cached: bool) -> str:
    if measured:
        return f"from the cost of {measured:,} earlier questions here"
    once = ", with the instruction read from the cache" if cached else ""
    return f"from typical lengths{once}; nothing was measured here yet, and thinking tokens are not counted"


def _as_before(client: TeacherClient, load: Load, past: Billed) -> tuple[Usage, float]:
    """Take every question as the mean earlier one, second attempts included; a longer text has more tokens."""
    scale = load.questions / past.questions
    calls = scale * past.calls
    longer = (load.text_bytes / load.questions - past.text_bytes / past.calls) * calls if calls else 0.0
    input_tokens = max(scale * past.input_tokens + longer / BYTES_PER_TOKEN[client.name], 0.0)
    shared = (scale * past.cached_tokens, scale * past.cache_write_tokens)
    return _usage(input_tokens, scale * past.output_tokens, *shared), calls


def _typical(client: TeacherClient, load: Load) -> tuple[Usage, float]:
    """Take one call for each question, of typical length.

    Anthropic's models read the instruction from the cache that it is marked for; Gemini's cache promises nothing, and
    holds no prompt of under 4,096 tokens.
    """
    assert isinstance(client.teacher, RemoteTeacher)
    access = client.teacher.access
    instruction, ratio = access.instruction, BYTES_PER_TOKEN[client.name]
    shared = (_bytes(instruction) + _bytes(teacher_prompt.schema_text(*access.form))) / ratio
    own = (
        load.text_bytes + load.questions * _bytes(teacher_prompt.message(Question("", "", ""), access.words))
    ) / ratio
    answers = _answer_bytes(client.teacher.access, load) / ratio
    cached_from = 0 if client.tariff is None else client.tariff.cache_from
    if client.name != "claude" or shared < cached_from:
        return _usage(own + load.questions * shared, answers), load.questions
    written = min(load.turns, load.questions)
    return _usage(own, answers, (load.questions - written) * shared, written * shared), load.questions


def _answer_bytes(access: Access, load: Load) -> float:
    """Return the length of all answers: a part that each has, and one for each of the two tasks of a pair."""
    if access.small:
        one = SMALL_STEPS[access.length] * STEP_BYTES + 2 * LABEL_BYTES
        return load.questions * one + 2 * load.pairs * LABEL_BYTES
    more = MORE_STEPS[access.length] * STEP_BYTES
    return load.questions * (ANSWER_BYTES + more) + 2 * load.pairs * (TASK_BYTES + more)


def _usage(input_tokens: float, output_tokens: float, cached: float = 0.0, written: float = 0.0) -> Usage:
    return Usage(round(input_tokens), round(output_tokens), round(cached), round(written))


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
