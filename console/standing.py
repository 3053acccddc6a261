"""Whether a guard is better than its baselines, in words, from the differences that its round recorded. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from wizloop.console import answering, chosen
from wizloop.store.steps import Round

Compared = Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]
"""The difference in F1 by benchmark, task and baseline; `label` is the positive one, if it is one's own word."""
NAMES = {"base": "base", "all_harmful": "all harmful", "tfidf": "TF-IDF"}
"""Baselines as headings, in the order in which they are shown."""
_EVERYTHING = {
    "request": "calling every request harmful",
    "completion": "calling every response a refusal",
    "response": "calling every response harmful",
}
_NO_CHAMPION = "No challenger has passed the gate: there is no champion to export, and the base is what reads the pool."
_BASE_CHOSEN = (
    "The base stands, as a person chose: there is no champion to export, and the base is what reads the pool."
)


class _Finding(NamedTuple):
    """One baseline that a guard does not beat; `verb` says how."""

    benchmark: str
    task: str
    baseline: str
    verb: str
    found: Mapping[str, Any]


def by_label(metrics: Mapping[str, Any]) -> str:
    """Return each label's F1, macro-F1 and the exact share, where a task has more than two labels; else nothing."""
    labels: Mapping[str, Mapping[str, float | None]] = metrics.get("by_label") or {}
    if not labels:
        return ""
    named = ", ".join(f"{label} {_figure(one.get('f1'))}" for label, one in labels.items())
    return f"{named}; macro-F1 {_figure(metrics.get('macro_f1'))}, exactly right {_figure(metrics.get('accuracy'))} %"


def heading(baseline: str, by_task: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a baseline's heading beside its figures: of one's own words, the one that it always answers."""
    own = {str(one["label"]) for one in by_task.values() if "label" in one}
    return (
        f"all {own.pop()}"
        if len(own) == 1
        else "always the first label"
        if own
        else {**NAMES, **answering.NAMES}[baseline]
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def sentences(who: str, compared: Compared) -> list[str]:
    """Return a sentence for each benchmark and task on which a guard does not beat every baseline."""
    said: dict[tuple[str, str], list[str]] = {}
    ours: dict[tuple[str, str], float | None] = {}
    for one in _not_beaten(compared):
        where = (one.benchmark, one.task)
        ours[where] = one.found["challenger"]
        said.setdefault(where, []).append(f"{one.verb} {_theirs(one)}")
    return [
        f"{who}: on {benchmark} {task} its F1 of {_points(ours[benchmark, task])} {' and '.join(parts)}."
        for (benchmark, task), parts in said.items()
    ]


def in_short(who: str, compared: Compared) -> str:
    """Return the same as one phrase without figures; empty if every baseline is beaten, or none was compared."""
    found: dict[str, dict[str, list[str]]] = {}
    for one in _not_beaten(compared):
        found.setdefault(one.verb, {}).setdefault(_baseline(one), []).append(f"{one.benchmark} {one.task}")
    parts = []
    for verb, by_baseline in found.items():
        parts.append(f"{verb} " + ", ".join(f"{name} on {' and '.join(sets)}" for name, sets in by_baseline.items()))
    return f"{who} {', and '.join(parts)}" if parts else ""


def of_champion(rounds: Sequence[Round]) -> list[str]:
    """Say where the present champion does not beat its baselines, or that no challenger has become champion."""
    decided = [each for each in rounds if each.gate_reason is not None]
    if decided and decided[-1].champion_after is None:
        return [_BASE_CHOSEN if chosen.KEY in decided[-1].record else _NO_CHAMPION]
    made = _champion_round(decided)
    return [] if made is None else sentences(f"The champion, of round {made.number}", made.record.get("compared", {}))


def ending(rounds: Sequence[Round]) -> str:
    """Return what follows a run's reason to end; empty if the champion beats its baselines."""
    decided = [each for each in rounds if each.gate_reason is not None]
    if decided and decided[-1].champion_after is None:
        if chosen.KEY in decided[-1].record:
            return "the base stands, as a person chose: there is no champion"
        return "no challenger has passed the gate: there is no champion"
    made = _champion_round(decided)
    return "" if made is None else in_short(f"the champion, of round {made.number},", made.record.get("compared", {}))


def _champion_round(decided: Sequence[Round]) -> Round | None:
    """Return the round that made the present champion."""
    last = decided[-1].champion_after if decided else None
    return next((each for each in reversed(decided) if last is not None and each.challenger == last), None)


def _not_beaten(compared: Compared) -> Iterator[_Finding]:
    for benchmark, by_task in compared.items():
        for task, by_baseline in by_task.items():
            for baseline in (name for name in NAMES if name in by_baseline):
                found = by_baseline[baseline]
                low, high = found["low"], found["high"]
                if found["difference"] is None or (low is not None and low > 0):
                    continue
                verb = "is below" if high is not None and high < 0 else "cannot be told apart from"
                yield _Finding(benchmark, task, baseline, verb, found)


def _baseline(one: _Finding) -> str:
    names = {"base": "the base", "tfidf": "TF-IDF with logistic regression on the same labels"}
    if one.baseline == "all_harmful" and "label" in one.found:
        return f"always answering {one.found['label']}"
    return names.get(one.baseline) or _EVERYTHING[one.task]


def _theirs(one: _Finding) -> str:
    low, high = one.found["low"], one.found["high"]
    interval = "" if low is None or high is None else f", 95 % interval {100 * low:+.1f} to {100 * high:+.1f}"
    gap = f"{100 * (one.found['difference'] or 0):+.1f} points{interval}"
    return f"the {_points(one.found['champion'])} of {_baseline(one)} ({gap})"


def _points(value: float | None) -> str:
    return f"{100 * (value or 0):.1f}"
