"""What questions to a teacher will cost, about: by what it was billed before, or by usual lengths. It is no bound.

What is held for a call is the most that it can cost, and is worked out elsewhere (`calls.Seat.worst_micro`): nothing
here is ever reserved, and no call is kept back for it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from wizloop.backends.teachers import prompt as teacher_prompt
from wizloop.backends.teachers.base import Question, Usage
from wizloop.backends.teachers.remote import RemoteTeacher
from wizloop.loop.teaching.calls import Seat
from wizloop.store.bills import Billed

BYTES_A_TOKEN = {"claude": 3.5, "gemini": 4.0, "openai": 4.0}
"""Characters of English text, as the providers' own pages give them (Anthropic's glossary, Google's and OpenAI's pages
on tokens). A text in another script has more tokens a character, and as many more bytes: three in most of them."""
ANSWER_BYTES = 1450
"""An answer about a prompt alone. One answer in these fields by a provider's model is on record (gemini-3-pro-preview,
in the history of the repository wizard101): 1,432 bytes as compact JSON, 1,467 with blanks."""
TASK_BYTES = 360
"""What each of the two tasks adds that only a sample with a response has: 2.7 steps, as GuardReasoner's recorded
outputs have them, of the 134 characters that a step has in the data it was taught with (arXiv:2501.18492)."""


@dataclass(frozen=True, slots=True)
class Load:
    """Questions that are to be asked, together."""

    questions: float
    text_bytes: float
    """Of the samples' texts, in UTF-8."""
    pairs: float
    """How many of them have a response."""
    turns: int = 1
    """How often the teacher is asked after a pause that no cache outlasts: once a round."""

    def __add__(self, more: "Load") -> "Load":
        sums = (self.questions + more.questions, self.text_bytes + more.text_bytes, self.pairs + more.pairs)
        return Load(*sums, self.turns + more.turns)

    def share(self, part: float) -> "Load":
        """A part of these questions, of the same kind."""
        return Load(part * self.questions, part * self.text_bytes, part * self.pairs, self.turns)


def load_of(asked: Sequence[Question]) -> Load:
    """The load of these questions, asked at once."""
    sizes = [_bytes(one.prompt) + _bytes(one.response or "") for one in asked]
    return Load(len(asked), sum(sizes), sum(one.response is not None for one in asked))


@dataclass(frozen=True, slots=True)
class Expected:
    """What questions will take, about."""

    questions: int
    input_tokens: int
    """Of the whole prompts, wherever they are read from."""
    output_tokens: int
    usd: float | None
    """None where the price is not known."""
    measured: int
    """The questions of before that it rests on; 0 where it rests on usual lengths."""
    rests_on: str
    """The same in words."""


def nothing(questions: int) -> Expected:
    """What questions take that are answered here."""
    return Expected(questions, 0, 0, 0.0, 0, "it runs here and costs nothing")


def expected(seat: Seat, load: Load, past: Billed | None, *, paid: bool) -> Expected:
    """What a load will take of a teacher behind a network. `past` is what its calls of before were billed for."""
    usage, calls = _usual(seat, load) if past is None else _as_before(seat, load, past)
    usd = None if paid else 0.0
    if seat.tariff is not None:
        usd = seat.tariff.total_micro(usage, calls, batch=seat.reduced) / 1e6
    prompts = usage.input_tokens + usage.cached_tokens + usage.cache_write_tokens
    measured = 0 if past is None else past.questions
    rests_on = _rests_on(measured, cached=usage.cached_tokens > 0)
    return Expected(round(load.questions), prompts, usage.output_tokens, usd, measured, rests_on)


def _rests_on(measured: int, *, cached: bool) -> str:
    if measured:
        return f"by what {measured:,} questions took here before"
    once = ", the instruction from the cache" if cached else ""
    return f"by usual lengths{once}: none was measured here yet, and thinking is not counted"


def _as_before(seat: Seat, load: Load, past: Billed) -> tuple[Usage, float]:
    """Every question as the mean one of before, second asks with it; a longer text has more tokens."""
    often = load.questions / past.questions
    calls = often * past.calls
    longer = (load.text_bytes / load.questions - past.text_bytes / past.calls) * calls if calls else 0.0
    input_tokens = max(often * past.input_tokens + longer / BYTES_A_TOKEN[seat.name], 0.0)
    shared = (often * past.cached_tokens, often * past.cache_write_tokens)
    return _usage(input_tokens, often * past.output_tokens, *shared), calls


def _usual(seat: Seat, load: Load) -> tuple[Usage, float]:
    """One call for each question. Anthropic's models read the instruction from the cache that it is marked for;
    Gemini's cache promises nothing, and holds no prompt of under 4,096 tokens.
    """
    assert isinstance(seat.teacher, RemoteTeacher)
    told, ratio = seat.teacher.reach.told, BYTES_A_TOKEN[seat.name]
    shared = (_bytes(told) + _bytes(json.dumps(teacher_prompt.schema()))) / ratio
    own = (load.text_bytes + load.questions * _bytes(teacher_prompt.message(Question("", "", "")))) / ratio
    answers = (load.questions * ANSWER_BYTES + 2 * load.pairs * TASK_BYTES) / ratio
    if seat.name != "claude" or shared < _kept_from(seat):
        return _usage(own + load.questions * shared, answers), load.questions
    written = min(load.turns, load.questions)
    return _usage(own, answers, (load.questions - written) * shared, written * shared), load.questions


def _kept_from(seat: Seat) -> int:
    return 0 if seat.tariff is None else seat.tariff.cache_from


def _usage(input_tokens: float, output_tokens: float, cached: float = 0.0, written: float = 0.0) -> Usage:
    return Usage(round(input_tokens), round(output_tokens), round(cached), round(written))


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
