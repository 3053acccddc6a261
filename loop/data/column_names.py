"""What a column's name says about its values: whether true in it is harm, or the opposite, or cannot be told."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Literal

from wizloop.loop.data.label_words import NO, WORDS, YES
from wizloop.loop.words import LABELS, Task

Truth = Literal["positive", "negative", "silent", "unclear"]

_HARM = (
    "unsafe harm harmful toxic toxicity malicious flagged flag dangerous violation violating violates violated hate "
    "hateful abusive abuse offensive inappropriate unacceptable blocked block nsfw disallowed prohibited forbidden "
    "jailbreak jailbroken attack risky unethical illegal noncompliant unlawful indecent disrespectful objectionable "
    "problematic abnormal anomalous invalid denied failed bad"
)
_SAFE = (
    "safe harmless benign unharmful innocuous acceptable appropriate allowed permitted ok okay clean sfw ethical legal "
    "allow approve approved accept accepted pass passed passes compliant legit legitimate lawful trusted good fine "
    "valid normal decent respectful wholesome friendly innocent"
)
_REFUSAL = "refusal refusals refused refuses refuse refusing rejected declined declines"
_COMPLIANCE = "compliance complied complies comply compliant complying answered followed"


def _signs(positive: str, negative: str) -> dict[str, bool]:
    return {**dict.fromkeys(positive.split(), True), **dict.fromkeys(negative.split(), False)}


_SIGNS: Mapping[Task, Mapping[str, bool]] = {
    "request": _signs(_HARM, _SAFE),
    "completion": _signs(_REFUSAL, _COMPLIANCE),
    "response": _signs(_HARM, _SAFE),
}
"""Whether a word in a column's name speaks of the task's positive label."""
_UNCLEAR = frozenset(("safety", "safeness", "harmlessness"))
_LABELS = frozenset(("safe", "unsafe", "harmful", "harmless", "unharmful", "benign"))
_NOT = frozenset(("not", "non", "no", "isnt", "never", "un", "in", "free"))
_FREE = frozenset(("free", "none", "less"))
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


@lru_cache(maxsize=256)
def words_of(column: str, task: Task) -> Mapping[str, str]:
    """Return what the words of a column mean for a task: the known ones, and true and false as its name says."""
    means = truth(column, task)
    if means == "silent":
        return WORDS[task]
    others = {word: label for word, label in WORDS[task].items() if word not in (*YES, *NO)}
    if means == "unclear":
        return others
    return {**others, **_true_and_false(task, positive=means == "positive")}


def turned(task: Task) -> Mapping[str, str]:
    """Return what the words of a column mean where a mapping says that it is the opposite."""
    other = dict(zip(LABELS[task], LABELS[task][::-1], strict=True))
    others = {word: other[label] for word, label in WORDS[task].items()}
    return {**others, **_true_and_false(task, positive=False)}


def truth(column: str, task: Task) -> Truth:
    """Return which label true in a column of this name is: the task's positive or negative one.

    silent if the name says nothing (label, verdict), unclear if it says two things, or one that could be either.
    """
    parts = [part for part in _parts(column, task) if part != "of"]
    found = set(_found(parts, _SIGNS[task]))
    if len(found) == 1:
        return "positive" if found == {True} else "negative"
    return "unclear" if found or "not" in parts or not _UNCLEAR.isdisjoint(parts) else "silent"


def is_about_harm(column: str) -> bool:
    """Return whether true in a column of this name is a label of harm itself, and not a sign of it (is_safe)."""
    return not _LABELS.isdisjoint(_parts(column, "request"))


def _true_and_false(task: Task, *, positive: bool) -> dict[str, str]:
    yes, no = LABELS[task] if positive else LABELS[task][::-1]
    return {**dict.fromkeys(YES, yes), **dict.fromkeys(NO, no)}


def _found(parts: list[str], signs: Mapping[str, bool]) -> Iterator[bool]:
    """Yield the sign of each word that has one, turned by a negation before it and by "free" behind it."""
    for before, part, after in zip(["", *parts], parts, [*parts[1:], ""], strict=False):
        if part in signs:
            yield signs[part] != (before in _NOT or after in _FREE)


def _parts(column: str, task: Task) -> Iterator[str]:
    """Yield the words of a name, in lower case: is_safe and isSafe have two, and so have issafe and nontoxic."""
    known = _SIGNS[task]
    for written in _WORD.findall(column):
        part = written.casefold()
        joined = next((each for each in ("is", *_NOT) if part not in known and part.removeprefix(each) in known), None)
        yield from (part,) if joined is None else (joined, part.removeprefix(joined))
