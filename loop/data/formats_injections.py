"""Known sets of prompt injections. Their labels are ignored: an injection is none of our tasks.

Most have the columns `text` and `label` of any set, with 0 and 1, so their first rows are looked at, and never the
file's name. Columns as published: deepset/prompt-injections, xTRam1/safe-guard-prompt-injection and
qualifire/prompt-injections-benchmark (`text`, `label`), jackhhao/jailbreak-classification (`prompt`, `type`),
reshabhs/SPML_Chatbot_Prompt_Injection, Lakera/gandalf_ignore_instructions.
"""

import re
from collections.abc import Callable, Sequence

from wizloop.loop.data.formats import Content, Format, begins_with, columns, text_column
from wizloop.loop.data.records import Record

LEAST_SHARE = 0.25
"""Share of the rows with label 1 whose text overrides an instruction, from which they are injections."""
LEAST_ROWS = 2
LEAST_RATIO = 4
"""How many times as often as the rows with label 0."""
WORDS = columns("injection prompt_injection prompt-injection jailbreak legit")
"""Labels that only sets of injections have, case-folded."""
ORDINARY = columns("benign safe normal")
"""Labels that they may have beside those."""
BARE = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
"""Labels without a word for what they mean."""
NOTE = (
    "its labels are about prompt injection, which is none of our tasks, and are ignored; if they are about harm, "
    "import it with --format columns"
)

OVERRIDES = re.compile(
    r"""
    \b(?:ignore|disregard|forget|overlook|vergiss|vergesse|ignorier\w*|missachte\w*|olvid\w*|ignora|oublie\w*|zabor\w*)\b
      .{0,60}?\b(?:all|everything|any|previous|prior|above|before|earlier|preceding|instructions?|prompts?|rules?
      |alle\w*|vorherig\w*|vorangegangen\w*|anweisung\w*|bisherig\w*|davor|zuvor|anterior\w*|instrucciones|précédent\w*)\b
    | \b(?:system|initial|original|hidden|secret|previous)\s+(?:prompt|instruction)s?\b
    | \byou\s+are\s+now\b | \bfrom\s+now\s+on\b | \bdu\s+bist\s+(?:jetzt|nun)\b | \bdeveloper\s+mode\b
    | \bnew\s+(?:task|instruction|role)s?\b | \bneue\w*\s+(?:aufgabe|anweisung)\w*
    | \b(?:override|bypass)\b.{0,30}?\b(?:instruction|guideline|restriction|filter|protocol|safeguard)s?\b
    | \b(?:do\s+anything\s+now|no\s+restrictions)\b
    | \byour\s+(?:\w+\s+)?(?:guideline|restriction|safeguard|rule|limitation|programming)s?\b
    | \byour\s+(?:prompt|instructions?)\b | \bdeine\w*\s+(?:prompt|anweisung)\w*
    | \bi\s+want\s+you\s+to\s+act\b | \bnow\s+you\s+are\b | \bjetzt\s+bist\s+du\b
    | \b(?:above\s+(?:prompt|text|instruction)|(?:prompt|text)\s+above|obige\w*)\b
    | \b(?:new|another)\s+(?:challenge|statement)\b
    | \bdass\s+sie\s+als\b.{0,60}\b(?:agieren|auftreten|fungieren|handeln)\b
    | \bstopp?\b\s*[.!\-–]
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""Texts that override an instruction, in some of the languages of the sets."""


def settle(fmt: Format, records: Sequence[Record]) -> Format:
    """Return the format of injections if a file of plain columns shows in its first rows that it is one, else `fmt`."""
    return INJECTIONS if _shows_injections(records) else fmt


def is_open(record: Record) -> bool:
    """Return whether a file of plain columns may be one of injections: its first label does not say what it means."""
    if text_column(record) is None or "label" not in record:
        return False
    return _bare(record) is not None or _word(record) in WORDS or _word(record) == "benign"


def _shows_injections(records: Sequence[Record]) -> bool:
    words = {_word(record) for record in records}
    if words & WORDS:
        return words <= WORDS | ORDINARY
    seen, overriding = [0, 0], [0, 0]
    for record in records:
        text = record.get(text_column(record) or "")
        if (at := _bare(record)) is not None and isinstance(text, str):
            seen[at] += 1
            overriding[at] += OVERRIDES.search(text[:2000]) is not None
    ordinary, injected = (overriding[at] / max(1, seen[at]) for at in (0, 1))
    return overriding[1] >= LEAST_ROWS and injected >= LEAST_SHARE and injected >= LEAST_RATIO * ordinary


def _bare(record: Record) -> int | None:
    return BARE.get(_word(record))


def _word(record: Record) -> str:
    return str(record.get("label")).strip().casefold().replace(" ", "_")


def _read(column: str) -> Callable[[Record], Content]:
    """Return a reader of prompts without labels."""
    return lambda record: Content(record[column])


def _is_jailbreak_type(record: Record, _name: str) -> bool:
    return record.keys() == {"prompt", "type"} and record["type"] in ("benign", "jailbreak")


INJECTIONS = Format(
    "prompt injections",
    frozenset(),
    lambda record: Content(record[text_column(record) or "text"]),
    # The first texts of deepset's train and test.
    begins_with("text", "79950ad562df", "7e7a0698f5f8"),
    NOTE,
)
INJECTION_SETS: tuple[Format, ...] = (
    INJECTIONS,
    Format("jailbreak classification", columns("prompt type"), _read("prompt"), _is_jailbreak_type, NOTE),
    Format(
        "spml",
        frozenset(("System Prompt", "User Prompt", "Prompt injection")),
        _read("User Prompt"),
        note=NOTE,
    ),
    Format(
        "gandalf",
        columns("text similarity"),
        _read("text"),
        lambda record, _name: record.keys() == {"text", "similarity"},
        "its texts try to override an instruction, which is none of our tasks, so its rows have no labels",
    ),
)
