"""Which categories a sample is in: by its labels, by its teacher's trace, and by its verdict."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from wizloop.loop.guard.categories import in_direct, in_trace, is_held, matched
from wizloop.loop.guard.rendering import Completion, Renderer
from wizloop.store.teacher_calls import TeacherTrace

Named = tuple[str, ...] | None
"""Categories in the declared order; None where nobody says which."""

_MOST_WORDS = 5


def unknown_words(names: Sequence[str], given: Iterable[Sequence[str]]) -> str:
    """Return the words of samples or traces that mean no declared name, most frequent first; empty for none."""
    unknown = Counter(word for words in given for word in matched(words, names)[1])
    listed = ", ".join(f"{word!r} ({n:,})" for word, n in unknown.most_common(_MOST_WORDS))
    more = f" and {len(unknown) - _MOST_WORDS:,} more" if len(unknown) > _MOST_WORDS else ""
    return f"{listed}{more}"


def named_by(trace: TeacherTrace) -> Sequence[str] | None:
    """Return the categories that a teacher's trace names; None if it was not asked for any."""
    named: Sequence[str] | None = json.loads(trace.trace_json).get("categories")
    return named


def true_of(renderer: Renderer, verdict: Mapping[Any, str | None], labeled: Sequence[str] | None) -> Named:
    """Return a guard's categories that a sample with these labels is in.

    One that is not to be blocked is in none, whatever topic its file names. Words that are not declared are left out.
    """
    if not is_held(verdict, renderer.declared):
        return () if verdict.get("request") or verdict.get("response") else None
    return None if labeled is None else matched(labeled, renderer.categories)[0]


def shown(named: Named, hidden: Collection[str]) -> Named:
    """Return categories without those that a prompt hides; None where it hides all that apply."""
    kept = None if named is None else tuple(name for name in named if name not in hidden)
    return kept if kept or not named else None


def with_categories(
    renderer: Renderer,
    trace: TeacherTrace,
    labeled: Sequence[str] | None,
    traced: Completion,
    direct: Completion,
    hidden: Collection[str] = (),
) -> tuple[Completion, Completion]:
    """Return a trace and a direct answer with the categories that a guard learns from a teacher's trace.

    They are those of its sample's labels, which people gave, or else those that the teacher names, without those that
    the prompt hides. Both stay as they are where neither says, and for a guard without categories.
    """
    if not renderer.categories:
        return traced, direct
    named = shown(true_of(renderer, trace.verdict, named_by(trace) if labeled is None else labeled), hidden)
    return in_trace(traced, named), in_direct(direct, renderer, named, trace.verdict)
