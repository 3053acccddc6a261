"""Read a file's own words for labels. A word is read as a label only where nothing is guessed.

A format says which word stands beside which task (`Given`); what the word means is decided here, by the words that are
known, by the name of the column, and by what `--label` says.
"""

import json
import math
import re
import shlex
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from wizloop.loop.data import guard_outputs
from wizloop.loop.data.records import ImportRefused, RowRefused
from wizloop.loop.words import DEFAULT, TASKS, Declaration, Task

HARM: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("safe", "benign", "unharmful", "harmless", "0", "false"), "unharmful"),
        **dict.fromkeys(("non-toxic", "nontoxic", "non_toxic", "non toxic"), "unharmful"),
        **dict.fromkeys(("unsafe", "harmful", "1", "true", "toxic"), "harmful"),
    }
)
"""Accepted words for harm, case-folded."""

COMPLETION: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("refusal", "2_full_refusal"), "refusal"),
        **dict.fromkeys(("compliance", "1_full_compliance"), "compliance"),
    }
)
"""Accepted words for refusal and compliance, case-folded."""

WORDS: Mapping[Task, Mapping[str, str]] = MappingProxyType(
    {"request": HARM, "completion": COMPLETION, "response": HARM}
)
"""Accepted words for the labels of each task."""

MISSING = frozenset(
    (
        "",
        "none",
        "nan",
        "-nan",
        "n/a",
        "na",
        "n.a.",
        "#n/a",
        "#na",
        "null",
        "(null)",
        "nil",
        "<na>",
        "\\n",
        "-",
        "--",
        "–",
        "—",
    )
)
"""What stands where nothing is known, as pandas, spreadsheets, databases and Python write it, case-folded."""
YES, NO = ("true", "1", "yes", "y", "t"), ("false", "0", "no", "n", "f")
"""What is true and false of a column whose name says what it is about, case-folded."""
NO_LABEL = "none"
"""What `--label` calls a word that is no label."""

THIRD: Mapping[str, str] = MappingProxyType({**HARM, "controversial": NO_LABEL, "needs caution": NO_LABEL})
"""Words for harm of sets with a third class, which is no label unless `--label` says what it is."""

MOST_UNKNOWN = 0.02
"""Share of the rows from which an unknown word refuses a file that trains or measures."""
_SHOWN, _LONGEST_WORD, _MOST_WORDS, _MOST_LISTED = 40, 200, 1000, 10
_TWINS = {"true": "1", "false": "0", "1": "true", "0": "false"}
# A list of one text, as a table holds it.
_LIST_OF_ONE = re.compile(r"\[\s*(?:'([^'\"]*)'|\"([^'\"]*)\")\s*\]")
_WHOLE_FLOAT = re.compile(r"(-?\d{1,15})\.0+")


LabelCounts = Mapping[Any, Mapping[str, int]]
"""Rows by task and label."""


class Given(NamedTuple):
    """A label as a file writes it."""

    value: Any
    words: Mapping[str, str] | None = None
    """What its column's words mean; None for the task's own words."""
    rejected: bool = False
    """True if somebody said that it is not this label."""
    turned: bool = False
    """True if its column says the opposite, which `words` takes into account."""


class UnknownLabel(RowRefused):
    """A row has a label word that is not known."""

    def __init__(self, task: Task, value: Any, declared: Declaration = DEFAULT) -> None:
        self.task = task
        self.word = str(value).strip()[:_LONGEST_WORD]
        hint = next(
            (f"; for a label of the {other}, add --task {other}" for other in TASKS if self.word in declared[other]), ""
        )
        super().__init__(f"unknown {task} label {self.word[:_SHOWN]!r}: write {' or '.join(declared[task])}{hint}")


def word_of(value: Any) -> str | None:
    """Return a label's word: case-folded and stripped, a number without its ".0", one item of a list of one.

    None for what stands where nothing is known: null, NaN, an empty text or list, and words such as None and N/A.
    """
    while isinstance(value, list | tuple) and len(value) < 2:
        value = value[0] if value else None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return _word(str(value)[:_LONGEST_WORD])


@lru_cache(maxsize=4096)
def _word(written: str) -> str | None:
    word = written.strip().casefold()
    if word in MISSING:
        return None
    if whole := _WHOLE_FLOAT.fullmatch(word):
        return str(int(whole[1]))
    if one := _LIST_OF_ONE.fullmatch(word):
        return _word(one[1] or one[2] or "")
    verdict = guard_outputs.llama_guard(word) if word.startswith(("safe", "unsafe")) else None
    return verdict[0] if verdict else word


def is_missing(text: str) -> bool:
    """Return whether a text only says that there is none."""
    return len(text) < 8 and text.strip().casefold() in MISSING


def _is_plain(value: Any) -> bool:
    """Return whether a label is a word, and nothing that a guard or a moderation API writes."""
    return not isinstance(value, dict | list) and not (isinstance(value, str) and re.search("[\n:{]", value))


def opposite(label: str, task: Task, declared: Declaration = DEFAULT) -> str | None:
    """Return the other label of a task; None if it has several."""
    others = [each for each in declared[task] if each != label]
    return others[0] if len(others) == 1 else None


def says_truth(value: Any) -> bool:
    """Return whether a value is true or false in any spelling, and no label of its own."""
    return isinstance(value, str | int | float | None) and word_of(value) in (*YES, *NO)


@dataclass
class LabelWords:
    """The words of one file: what `--label` says of them, and those that nobody knows."""

    asked: Mapping[str, str] = field(default_factory=dict)
    """Label, or NO_LABEL, by word as the user writes it."""
    unknown: dict[Task, Counter[str]] = field(default_factory=dict)
    """Rows by task and unknown word."""
    used: set[str] = field(default_factory=set)
    """The asked words that were met."""
    declared: Declaration = DEFAULT
    """The labels that words can stand for; one's own words are read as themselves."""

    def __post_init__(self) -> None:
        known = (*(word for words in self.declared.by_task.values() for word in words), NO_LABEL)
        self.asked = dict(self._said(written, label, known) for written, label in self.asked.items())
        self._by_word = {word_of(written) or NO_LABEL: written for written in self.asked}

    @staticmethod
    def _said(written: str, label: str, known: Collection[str]) -> tuple[str, str]:
        """Return a word and its label, also if they were given the other way around. Raises ImportRefused."""
        if label in known:
            return written, label
        if written in known:
            return label, written
        listed = ", ".join(dict.fromkeys(known))
        raise ImportRefused(f"--label {written}={label}: write it as WORD=LABEL, with one of {listed}")

    @property
    def is_own(self) -> bool:
        """Whether the labels are not the default ones, so that what a format knows must be read again."""
        return self.declared != DEFAULT

    def read(self, given: Given, task: Task) -> str | None:
        """Return the label of a task, or None for no label. Raises UnknownLabel."""
        said = None if _is_plain(given.value) else guard_outputs.word(given.value, task)
        word = said or word_of(given.value)
        found = self._asked(word or NO_LABEL, task)
        if found is None:
            if word is None or not self.declared[task]:
                return None
            known = WORDS[task] if given.words is None else given.words
            found = self._own(word, task, turned=given.turned) or known.get(word)
            several = given.turned and bool(self.declared.classes(task))
            if found is None or several or found not in (*self.declared[task], NO_LABEL):
                raise UnknownLabel(task, said or given.value, self.declared)
        if found == NO_LABEL:
            return None
        return opposite(found, task, self.declared) if given.rejected else found

    def _own(self, word: str, task: Task, *, turned: bool) -> str | None:
        """Return the label that one's own word is; None for the default words, which a column may turn itself."""
        if self.declared[task] == DEFAULT[task]:
            return None
        found = self.declared.known(task, word)
        return opposite(found, task, self.declared) if found and turned else found

    def _asked(self, word: str, task: Task) -> str | None:
        """Return what the user says of a word, if it is about this task: true also speaks for 1, false for 0."""
        written = self._by_word.get(word) or self._by_word.get(_TWINS.get(word, ""))
        if written is None or (label := self.asked[written]) not in (*self.declared[task], NO_LABEL):
            return None
        self.used.add(written)
        return label

    def count(self, task: Task, word: str) -> None:
        """Count a row with an unknown word; of very many words the later ones together."""
        counted = self.unknown.setdefault(task, Counter())
        counted[word if len(counted) < _MOST_WORDS or word in counted else "other words"] += 1

    def unused(self) -> list[str]:
        """Return the asked words that no row has."""
        return [written for written in self.asked if written not in self.used]

    def fault(self, path: str, rows: int, labels: LabelCounts) -> str | None:
        """Return why a file that trains or measures is refused for its label words, and what to do; or None.

        `rows` is the number of its rows, `labels` counts those that are known: {task: {label: rows}}.
        """
        for task, words in self.unknown.items():
            known, n = labels.get(task, {}), words.total()
            if n >= MOST_UNKNOWN * rows or len(known) < len(self.declared[task]):
                told = self.told(task, known)
                return f"{path}: {n:,} of its {rows:,} rows have a {task} label that is not known: {told}"
        return None

    def told(self, task: Task, known: Mapping[str, int]) -> str:
        """Return the unknown words of a task with their rows, and how to map them."""
        words = self.unknown[task].most_common(_MOST_LISTED)
        more = len(self.unknown[task]) - len(words)
        listed = ", ".join(f"{word[:_SHOWN]!r} ({n:,})" for word, n in words) + (f" and {more:,} more" if more else "")
        # The label that is missing is the likely one; it is a proposal and never taken.
        labels = self.declared[task]
        likely, *others = sorted(labels, key=lambda label: label in known)
        if not known and len(words) > 1:
            # Nothing says which of them is which.
            likely, other = "LABEL", f"LABEL is {', '.join(labels)}, or none"
        else:
            other = ", ".join(f"or ={label}" for label in (*others, "none"))
        # A word of several lines is easier said in a recipe.
        said = [shlex.quote(f"{word}={likely}") for word, _ in words if word.isprintable()]
        options = f": {' '.join(f'--label {option}' for option in said)}" if said else ""
        return (
            f"{listed}; say what each means{options} ({other} for no label; in a recipe "
            f'label = {{{json.dumps(words[0][0])} = "{likely}"}})'
        )
