"""Build training examples from approved traces, with the renderer that inference uses."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wizloop.backends.guard_types import Encoded, SftExample
from wizloop.loop.context import Context
from wizloop.loop.data import leaks
from wizloop.loop.guard.backend import Guard
from wizloop.loop.guard.categories import in_direct
from wizloop.loop.guard.rendering import Renderer
from wizloop.loop.measures.deepconf import window_for
from wizloop.loop.phases import policy_lessons
from wizloop.loop.phases.contradictions import is_overruled
from wizloop.loop.phases.taught_categories import named_by, shown, true_of, unknown_words, with_categories
from wizloop.loop.stored_samples import labels_of, usable
from wizloop.store import categories, reviews, samples, training
from wizloop.store.db import Connection
from wizloop.store.samples import Sample
from wizloop.store.teacher_calls import TeacherTrace

LEAKED = "its text is in dev or test"
KIND = "sft"
"""The kind under which left-out samples are stored."""


@dataclass(frozen=True)
class Lesson:
    """A sample, its approved trace, and the two training examples made from it."""

    sample: Sample
    trace: TeacherTrace
    traced: SftExample
    direct: SftExample
    asked: Renderer
    """How its pairs are mined: its examples may vary the policies."""
    prompt: Encoded
    """The prompt of its pairs."""


@dataclass(frozen=True)
class TrainingSet:
    """The training data of a round."""

    lessons: list[Lesson]
    left_out: dict[str, int]
    """Approved traces left out, by reason: the text is in dev or test, no trace can be rendered, or it is too long."""
    window: int
    """DeepConf's group for traces of this length, in tokens."""

    @property
    def leaked(self) -> int:
        """Traces left out because their text is in dev or test."""
        return self.left_out.get(LEAKED, 0)

    @property
    def dropped(self) -> int:
        """Traces left out for other reasons."""
        return sum(self.left_out.values()) - self.leaked


def collect(ctx: Context, guard: Guard) -> TrainingSet:
    """Collect the lessons of all rounds up to this one, in sample order; store what is left out with its reason."""
    with ctx.store.read() as db:
        approved = {trace.sample_id: trace for trace in reviews.approved(db, ctx.round)}
        known = samples.get(db, list(approved))
        labeled = categories.labels(db, list(approved)) if _are_read(ctx) else {}
    names, given = ctx.renderer.categories, (named_by(trace) or () for trace in approved.values())
    if names and (listed := unknown_words(names, given)):
        ctx.say(f"Categories of teachers that guard.categories does not name are left out: {listed}.", "warn")
    leaking = leaks.among(ctx.store, known)
    lessons: list[Lesson] = []
    left_out: dict[int, str] = {}
    for sample in known:
        leaked = sample.id in leaking or sample.excluded is not None
        lesson = LEAKED if leaked else _lesson(ctx, guard, sample, approved[sample.id], labeled.get(sample.id))
        if isinstance(lesson, str):
            left_out[sample.id] = lesson
        else:
            lessons.append(lesson)

    def drop(db: Connection, batch: Sequence[int]) -> None:
        for sample_id in batch:
            training.dropped(db, ctx.round, sample_id, KIND, left_out[sample_id])

    ctx.write_batches(sorted(left_out), drop)
    if overruled := sum(lesson.traced.weight == 0 for lesson in lessons):
        ctx.say(f"{overruled:,} verdicts that a person changed, and not their reasoning, are taught without it.")
    lengths = [guard.count(one.traced.completion) for one in lessons[:200]]
    window = window_for(sum(lengths) / len(lengths)) if lengths else window_for(ctx.recipe.guard.max_trace_tokens / 2)
    return TrainingSet(lessons, dict(Counter(left_out.values()).most_common()), window)


def _are_read(ctx: Context) -> bool:
    """Return whether lessons depend on the categories of samples."""
    return bool(ctx.renderer.categories) or ctx.renderer.policies is not None


def kept_by_member(seed: int, member: int, sample_id: int, share: float) -> bool:
    """Return whether a member trains on a sample: decided by a hash, so the same in every round."""
    digest = hashlib.sha256(f"{seed}:{member}:{sample_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def sft_examples(lessons: Iterable[Lesson]) -> list[SftExample]:
    """Return both examples of each lesson, except examples of weight 0."""
    return [one for lesson in lessons for one in (lesson.traced, lesson.direct) if one.weight > 0]


def held_out_examples(ctx: Context, guard: Guard) -> list[SftExample]:
    """Return the direct answers of some dev samples that are labeled on every task, the same in every round."""
    declared = ctx.declared
    dev = [
        sample
        for sample in usable(ctx.store, "dev")
        if len(labels_of(sample, declared)) == len(declared.tasks_of(sample))
    ]
    dev.sort(key=lambda sample: hashlib.sha256(f"held out:{sample.id}".encode()).digest())
    longest = ctx.recipe.guard.max_prompt_tokens
    dev, found = dev[: ctx.recipe.train.held_out], []
    with ctx.store.read() as db:
        labeled = categories.labels(db, [sample.id for sample in dev]) if _are_read(ctx) else {}
    for sample in dev:
        known = labels_of(sample, declared)
        verdict: dict[str, str | None] = {task: known.get(task) for task in declared.tasks}
        try:
            how = policy_lessons.drawn(ctx.recipe, ctx.round, ctx.renderer, sample, labeled=labeled.get(sample.id))
        except policy_lessons.NotTaught:
            continue
        named = shown(true_of(ctx.renderer, verdict, labeled.get(sample.id)), how.hidden_when_asked)
        direct = in_direct(how.asked.direct_completion(verdict), ctx.renderer, named, verdict)
        prompt = guard.encode(how.asked.direct_prompt(sample), max_tokens=longest)
        found.append(SftExample(sample.id, prompt, direct.text, direct.strong))
    return found


def _lesson(
    ctx: Context, guard: Guard, sample: Sample, trace: TeacherTrace, labeled: Sequence[str] | None
) -> Lesson | str:
    """Return the lesson, or the reason why there is none; `labeled` are the sample's known categories."""
    try:
        how = policy_lessons.drawn(ctx.recipe, ctx.round, ctx.renderer, sample, trace, labeled)
    except policy_lessons.NotTaught as error:
        return str(error)
    renderer, longest = how.varied, ctx.recipe.guard.max_prompt_tokens
    taught = policy_lessons.following(trace) if how.follows else trace
    try:
        traced, direct = renderer.trace_completion(taught), renderer.direct_completion(taught.verdict)
    except ValueError as error:
        return f"its trace cannot be rendered: {error}"
    traced, direct = with_categories(renderer, taught, labeled, traced, direct, how.hidden)
    if guard.count(traced.text) >= ctx.recipe.guard.max_trace_tokens:
        return "its trace is longer than guard.max_trace_tokens, and its verdict would be cut"
    trace_prompt = guard.encode(renderer.trace_prompt(sample), max_tokens=longest)
    direct_prompt = guard.encode(renderer.direct_prompt(sample), max_tokens=longest)
    same = how.asked == renderer
    # The verdict alone is taught where the reasoning argues for another.
    weight = 0.0 if not how.follows and is_overruled(trace, renderer.reasoning) else 1.0
    return Lesson(
        sample,
        trace,
        SftExample(sample.id, trace_prompt, traced.text, traced.strong, weight),
        SftExample(sample.id, direct_prompt, direct.text, direct.strong, ctx.recipe.train.direct_weight),
        how.asked,
        trace_prompt if same else guard.encode(how.asked.trace_prompt(sample), max_tokens=longest),
    )
