"""Approved traces as training examples: the same renderer as in asking, and what cannot be learned from is named.

It reads the store and encodes; it trains nothing.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from wizloop.backends.guard_types import SftExample
from wizloop.loop.context import Context
from wizloop.loop.data import leaks
from wizloop.loop.guard.backend import Guard
from wizloop.loop.guard.rendering import Renderer
from wizloop.loop.measures.deepconf import window_for
from wizloop.store import reviews, samples, training
from wizloop.store.samples import Sample
from wizloop.store.teacher_calls import TeacherTrace

LEAKED = "its text stands in dev or test"
KIND = "sft"
"""Under which left-out samples are counted."""


@dataclass(frozen=True)
class Lesson:
    """One sample, its approved trace, and the two completions that it teaches."""

    sample: Sample
    trace: TeacherTrace
    by_trace: SftExample
    at_once: SftExample


@dataclass(frozen=True)
class Lessons:
    """All that a round trains on."""

    lessons: list[Lesson]
    left_out: dict[str, int]
    """How many approved traces are not learned from, by reason: dev or test holds their text, no trace can be made of
    them, or it is too long."""
    window: int
    """DeepConf's group for traces of this length, in tokens."""

    @property
    def leaked(self) -> int:
        """Left out because dev or test holds their text."""
        return self.left_out.get(LEAKED, 0)

    @property
    def dropped(self) -> int:
        """Left out for another reason."""
        return sum(self.left_out.values()) - self.leaked


def collect(ctx: Context, guard: Guard) -> Lessons:
    """The lessons of all rounds up to this one, in sample order; what is left out is noted with its reason."""
    with ctx.store.read() as db:
        approved = {trace.sample_id: trace for trace in reviews.approved(db, ctx.round)}
        known = samples.get(db, list(approved))
    leaking = leaks.among(ctx.store, known)
    renderer = ctx.renderer
    lessons: list[Lesson] = []
    refused: dict[int, str] = {}
    for sample in known:
        if sample.id in leaking or sample.excluded is not None:
            refused[sample.id] = LEAKED
            continue
        made = _lesson(ctx, guard, renderer, sample, approved[sample.id])
        if isinstance(made, str):
            refused[sample.id] = made
        else:
            lessons.append(made)
    _note(ctx, refused)
    lengths = [guard.count(one.by_trace.completion) for one in lessons[:200]]
    window = window_for(sum(lengths) / len(lengths)) if lengths else window_for(ctx.recipe.guard.max_trace_tokens / 2)
    return Lessons(lessons, dict(Counter(refused.values()).most_common()), window)


def kept_by_member(seed: int, member: int, sample_id: int, share: float) -> bool:
    """Whether a member sees a sample: by a hash, so that it does so in every round."""
    digest = hashlib.sha256(f"{seed}:{member}:{sample_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def sft_examples(lessons: Iterable[Lesson]) -> list[SftExample]:
    """Both examples of each lesson; an example without weight is left out."""
    return [one for lesson in lessons for one in (lesson.by_trace, lesson.at_once) if one.weight > 0]


def _lesson(ctx: Context, guard: Guard, renderer: Renderer, sample: Sample, trace: TeacherTrace) -> Lesson | str:
    """The lesson, or the reason why there is none."""
    try:
        by_trace, at_once = renderer.trace_completion(trace), renderer.direct_completion(trace.verdict)
    except ValueError as error:
        return f"no trace can be made of it: {error}"
    if guard.count(by_trace.text) >= ctx.recipe.guard.max_trace_tokens:
        return "its trace is longer than guard.max_trace_tokens, and its verdict would be cut"
    longest = ctx.recipe.guard.max_prompt_tokens
    traced = guard.encode(renderer.trace_prompt(sample), max_tokens=longest)
    direct = guard.encode(renderer.direct_prompt(sample), max_tokens=longest)
    return Lesson(
        sample,
        trace,
        SftExample(sample.id, traced, by_trace.text, by_trace.strong),
        SftExample(sample.id, direct, at_once.text, at_once.strong, ctx.recipe.train.direct_weight),
    )


def _note(ctx: Context, refused: dict[int, str]) -> None:
    for piece in ctx.pieces(sorted(refused), 250):
        with ctx.store.write() as db:
            for sample_id in piece:
                training.dropped(db, ctx.round, sample_id, KIND, refused[sample_id])
