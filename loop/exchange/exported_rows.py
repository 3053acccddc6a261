"""Rows of a run for other programs: lessons, pairs, selections, hard samples and reviews, each with its origin.

Every row of a file has the same keys, null where there is nothing, so that `datasets` gives each column one type. A
sample of dev or test, and one that repeats a text there, is never among them.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from wizloop.loop.context import Context
from wizloop.loop.data import leaks
from wizloop.loop.guard.rendering import Renderer, direct_opening
from wizloop.loop.phases import policy_lessons
from wizloop.loop.phases.taught_categories import with_categories
from wizloop.loop.stored_samples import labels_of
from wizloop.loop.words import Declaration, by_task
from wizloop.store import categories, reviews, samples, selections, steps, teacher_calls, training
from wizloop.store.db import Connection
from wizloop.store.samples import Sample
from wizloop.store.teacher_calls import TeacherTrace
from wizloop.store.training import Pair

Kind = Literal["lessons", "pairs", "selections", "hard-samples", "reviews"]
Form = Literal["plain", "messages", "mlx-lm-lora"]
FORMS: Mapping[Kind, tuple[Form, ...]] = {
    "lessons": ("plain", "messages"),
    "pairs": ("plain", "messages", "mlx-lm-lora"),
    "selections": ("plain",),
    "hard-samples": ("plain",),
    "reviews": ("plain",),
}
"""The forms of each kind. plain: prompt and completion, or TRL's columns of preferences."""

LEAKED = "its text is in dev or test"
UNRENDERED = "its trace cannot be rendered"
Row = dict[str, Any]


@dataclass
class Exported:
    """The rows of an export, and how many were left out, by reason."""

    rows: Iterator[Row]
    left_out: Counter[str] = field(default_factory=Counter)


class NoSuchForm(ValueError):
    """A kind of rows has no such form."""


@dataclass(frozen=True)
class _Source:
    """A sample with what it gives a row to say."""

    sample: Sample
    of: Any
    round: int
    teacher: str | None = None
    model: str | None = None
    trace: int | None = None

    def origin(self) -> Row:
        """Return where the row comes from: the same keys for every kind."""
        return {
            "row": self.sample.row_ref,
            "source": self.sample.source,
            "sample": self.sample.id,
            "split": self.sample.split,
            "round": self.round,
            "teacher": self.teacher,
            "model": self.model,
            "trace": self.trace,
        }


def export(ctx: Context, kind: Kind, form: Form, round: int | None) -> Exported:
    """Return a run's rows of one kind, of all rounds or up to one, by sample. Raises NoSuchForm, errors.NotFound."""
    if form not in FORMS[kind]:
        raise NoSuchForm(f"{kind} have no form {form}: choose {' or '.join(FORMS[kind])}")
    with ctx.store.read() as db:
        rounds = [one.number for one in steps.rounds(db) if round is None or one.number <= round]
        sources = _READERS[kind](db, rounds)
        labeled = categories.labels(db, [one.sample.id for one in sources])
    made = Exported(iter(()))
    made.rows = _rows(ctx, sources, _writer(ctx, kind, form, max(rounds, default=0), labeled), made.left_out)
    return made


def _rows(
    ctx: Context, sources: Sequence[_Source], written: Callable[[_Source], list[Row]], left_out: Counter[str]
) -> Iterator[Row]:
    leaking = leaks.among(ctx.store, list({one.sample.id: one.sample for one in sources}.values()))
    for one in sources:
        sample = one.sample
        if sample.split in leaks.MEASURED or sample.id in leaking or sample.excluded is not None:
            left_out[LEAKED] += 1
            continue
        try:
            found = written(one)
        except policy_lessons.NotTaught as error:
            left_out[str(error)] += 1
            continue
        except ValueError:
            left_out[UNRENDERED] += 1
            continue
        yield from ({**row, "origin": one.origin()} for row in found)


def _writer(
    ctx: Context, kind: Kind, form: Form, last: int, labeled: Mapping[int, Sequence[str]]
) -> Callable[[_Source], list[Row]]:
    """Return what writes the rows of a source; lessons as round `last` learns them, by these known categories."""
    if kind in _AS_STORED:
        return lambda one: _AS_STORED[kind](one, ctx.declared)
    renderer, direct_weight = ctx.renderer, ctx.recipe.train.direct_weight
    drawn = partial(policy_lessons.drawn, ctx.recipe)
    if kind == "lessons":
        return lambda one: _lesson(
            drawn(last, renderer, one.sample, one.of, labeled.get(one.sample.id)),
            one,
            form,
            direct_weight,
            labeled.get(one.sample.id),
        )
    traces: dict[int, TeacherTrace] = {}
    if renderer.policies is not None:
        with ctx.store.read() as db:
            traces = {trace.sample_id: trace for trace in reviews.approved(db, last)}

    def asked(one: _Source) -> Renderer:
        return drawn(one.round, renderer, one.sample, traces.get(one.sample.id), labeled.get(one.sample.id)).asked

    return lambda one: [_pair(asked(one), one, form)]


def _lesson(
    shown: policy_lessons.Shown, one: _Source, form: Form, direct_weight: float, labeled: Sequence[str] | None
) -> list[Row]:
    """Return the two examples that R-SFT makes of a trace. Raises ValueError for a trace that cannot be rendered."""
    renderer = shown.varied
    of = policy_lessons.following(one.of) if shown.follows else one.of
    traced, direct = renderer.trace_completion(of), renderer.direct_completion(of.verdict)
    traced, direct = with_categories(renderer, of, labeled, traced, direct, shown.hidden)
    examples = (
        ("trace", renderer.trace_opening, traced.text, 1.0),
        ("direct", direct_opening({}, renderer.declared), direct.text, direct_weight),
    )
    rows: list[Row] = []
    for name, opening, text, weight in examples:
        prompt, completion = turns(renderer, one.sample, opening, text)
        said = {"messages": [*_message("user", prompt), *_message("assistant", completion)]}
        about = {"kind": name, "weight": weight, "verdict": by_task(of.verdict)}
        rows.append((said if form == "messages" else {"prompt": prompt, "completion": completion}) | about)
    return rows


def _pair(renderer: Renderer, one: _Source, form: Form) -> Row:
    """Return a pair in TRL's columns, as texts or messages, or in mlx-lm-lora's."""
    pair: Pair = one.of
    prompt, chosen = turns(renderer, one.sample, renderer.trace_opening, pair.chosen)
    _, rejected = turns(renderer, one.sample, renderer.trace_opening, pair.rejected)
    said: Row = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    if form == "messages":
        said = {name: _message("user" if name == "prompt" else "assistant", text) for name, text in said.items()}
    # mlx-lm-lora reads this name where it weighs pairs (ORPO).
    weight = "preference_score" if form == "mlx-lm-lora" else "weight"
    return said | {weight: pair.weight, "task": pair.task, "n_right": pair.n_right, "n_wrong": pair.n_wrong}


def turns(renderer: Renderer, sample: Sample, opening: str, text: str) -> tuple[str, str]:
    """Return the user's turn and the answer to it, without the chat frame, which the other program puts around them.

    An opening belongs to the turn that it belongs to in training.
    """
    bare = replace(renderer, frame=("", "")).prompt(sample, opening)
    user = bare.instruction + "".join(part.text for part in bare.parts)
    return user, text if renderer.opening_in_turn else opening + text


def _selection(one: _Source, declared: Declaration) -> list[Row]:
    picked = one.of
    about = {"reason": picked.reason, "words": picked.words, "score": picked.score, "rank": picked.rank}
    return [_sample(one.sample, declared) | about | {"propensity": picked.propensity}]


def _hard_sample(one: _Source, declared: Declaration) -> list[Row]:
    pair: Pair = one.of
    about = {"task": pair.task, "n_right": pair.n_right, "n_wrong": pair.n_wrong, "weight": pair.weight}
    return [_sample(one.sample, declared) | about]


def _review(one: _Source, declared: Declaration) -> list[Row]:
    trace, review, stands = one.of
    edit = json.loads(review.edited_json or "{}")
    said = {"verdict": by_task(edit.get("verdict", trace.verdict)), "confidence": trace.confidence_word}
    decided = {"decision": review.decision, "by": review.by, "reason": review.reason, "in_effect": stands}
    when = {"decided_at": review.decided_at.isoformat(), "edited": bool(edit)}
    return [
        _sample(one.sample, declared)
        | said
        | {"explanation": edit.get("explanation", trace.explanation)}
        | decided
        | when
    ]


_AS_STORED: Mapping[Kind, Callable[[_Source, Declaration], list[Row]]] = {
    "selections": _selection,
    "hard-samples": _hard_sample,
    "reviews": _review,
}
"""The kinds whose rows need no renderer."""


def _sample(sample: Sample, declared: Declaration) -> Row:
    return {
        "prompt": sample.prompt,
        "response": sample.response,
        "label": by_task(labels_of(sample, declared)),
        "policy": sample.policy,
    }


def _message(role: str, text: str) -> list[Row]:
    return [{"role": role, "content": text}]


def _lessons(db: Connection, rounds: Sequence[int]) -> list[_Source]:
    """Return the trace of each sample that training takes: the last approved one."""
    approved = {trace.sample_id: trace for trace in reviews.approved(db, max(rounds, default=-1))}
    return _of_traces(db, [(trace, trace) for _, trace in sorted(approved.items())])


def _reviews(db: Connection, rounds: Sequence[int]) -> list[_Source]:
    found = []
    for trace in (one for number in rounds for one in teacher_calls.traces(db, number)):
        stands = reviews.standing(db, trace.id)
        in_effect = None if stands is None else (stands.by, stands.decision, stands.decided_at)
        for one in reviews.log(db, trace.id):
            found.append((trace, (trace, one, in_effect == (one.by, one.decision, one.decided_at))))
    return _of_traces(db, found)


def _of_traces(db: Connection, found: Sequence[tuple[TeacherTrace, Any]]) -> list[_Source]:
    ids = [trace.sample_id for trace, _ in found]
    known = {one.id: one for one in samples.get(db, ids)}
    asked = {call.id: call.model for calls in teacher_calls.by_sample(db, ids).values() for call in calls}
    return [
        _Source(known[one.sample_id], of, one.round, one.teacher, asked.get(one.call_id), one.id) for one, of in found
    ]


def _selections(db: Connection, rounds: Sequence[int]) -> list[_Source]:
    found = [one for number in rounds for one in selections.of_round(db, number)]
    known = {one.id: one for one in samples.get(db, [one.sample_id for one in found])}
    return [_Source(known[one.sample_id], one, one.round) for one in found]


def _pairs(db: Connection, rounds: Sequence[int]) -> list[_Source]:
    found = [one for number in rounds for one in training.pairs(db, number)]
    known = {one.id: one for one in samples.get(db, [one.sample_id for one in found])}
    return [_Source(known[one.sample_id], one, one.round, model=one.miner) for one in found]


_READERS: Mapping[Kind, Callable[[Connection, Sequence[int]], list[_Source]]] = {
    "lessons": _lessons,
    "pairs": _pairs,
    "selections": _selections,
    "hard-samples": _pairs,
    "reviews": _reviews,
}
