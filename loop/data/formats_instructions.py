"""Known sets of instructions, and of bare prompts. None has a label column: the set itself implies the labels.

So a set is known by its first text. Other files with the same columns are imported without labels; `--format` says that
one is such a set.
"""

from collections.abc import Callable, Mapping

from wizloop.loop.data.formats import (
    HARMFUL,
    NO_LABELS,
    TEXT_COLUMNS,
    UNHARMFUL,
    Constant,
    Content,
    Format,
    begins_with,
    columns,
)
from wizloop.loop.data.label_words import HARM, Given, word_of
from wizloop.loop.data.records import BadRow, Record
from wizloop.loop.words import Task

INSTRUCTION = columns("instruction input output")
ORDINARY: Mapping[Task, str] = {"request": "unharmful", "completion": "compliance", "response": "unharmful"}
"""Labels of an ordinary instruction and its answer."""
REFUSED: Mapping[Task, str] = {"request": "harmful", "completion": "refusal", "response": "unharmful"}
BY_CONSTRUCTION = "nobody labeled it: its labels follow from how the set was made"

WEAK = "its label is weak: the frame is an attack, and the actual request may be missing"


def _answered(labels: Mapping[Task, str]) -> Callable[[Record], Content]:
    """Return a reader of instruction, input and output that all have the same labels."""
    return lambda record: Content(_instruction(record), record["output"], labels)


def _instruction(record: Record) -> str:
    """Return the instruction, with its input, if any, on the next line. Raises BadRow."""
    instruction, about = record["instruction"], record.get("input")
    if not isinstance(instruction, str) or not isinstance(about, str | None):
        raise BadRow("the instruction or its input is not a text")
    return f"{instruction}\n{about}" if about else instruction


def _refused_pair(record: Record) -> Content:
    return Content(record["prompt"], record["response"], REFUSED)


def _verdict(record: Record) -> Content:
    """Read a row that teaches a guard: the input is what is judged, and the output is its label."""
    return Content(record["input"], None, {"request": Given(record["output"])})


def _is_verdict(record: Record, _name: str) -> bool:
    word = word_of(record["output"]) if isinstance(record["output"], str) else None
    return word in HARM and word not in ("0", "1", "true", "false") and bool(record["input"])


def _only_prompts(*digests: str) -> Callable[[Record, str], bool]:
    """Recognize a list of bare texts by its first."""
    first = begins_with("prompt", *digests)
    return lambda record, name: record.keys() == {"prompt"} and first(record, name)


def _has_no_other_prompt(record: Record, _name: str) -> bool:
    return record.keys().isdisjoint(TEXT_COLUMNS)


INSTRUCTION_SETS: tuple[Format, ...] = (
    Format(
        "guard instructions",
        INSTRUCTION,
        _verdict,
        _is_verdict,
        note="its outputs are verdicts: the input is read as the prompt, and the output as its label",
    ),
    Format(
        "alpaca",
        INSTRUCTION,
        _answered(ORDINARY),
        # The set itself, and the demos in English and Chinese of LLaMA-Factory.
        begins_with("instruction", "4354beb7755c", "084dab71073d", "965220f6e117"),
        BY_CONSTRUCTION,
    ),
    Format(
        "alpaca instructions",
        columns("instruction category"),
        Constant("instruction", UNHARMFUL),
        begins_with("instruction", "80f202d58e0e"),
        BY_CONSTRUCTION,
    ),
    # The instruction alone: it has many inputs, and choosing one would be arbitrary.
    Format(
        "alpaca seed tasks",
        columns("instruction instances is_classification"),
        Constant("instruction", UNHARMFUL, policy=""),
        note=BY_CONSTRUCTION,
    ),
    Format(
        "safety-tuned llamas",
        INSTRUCTION,
        _answered({"response": "unharmful"}),
        begins_with("instruction", "24f5c82d264f"),
        BY_CONSTRUCTION,
    ),
    Format(
        "safety-tuned llamas harmful",
        columns("prompt"),
        Constant("prompt", HARMFUL),
        # CoNa, MaliciousInstructions, PhysicalSafetyUnsafe, Q-Harm.
        _only_prompts("fb66c2081eec", "5e5fa2b9b5ea", "65b602492d82", "58ea899af152"),
        BY_CONSTRUCTION,
    ),
    Format(
        "safety-tuned llamas unharmful",
        columns("prompt"),
        Constant("prompt", UNHARMFUL),
        # Alpaca, PhysicalSafetySafe.
        _only_prompts("bc7fb8b14e3c", "931d18ef5703"),
        BY_CONSTRUCTION,
    ),
    Format(
        "wizard101 raw harmful",
        columns("prompt"),
        Constant("prompt", HARMFUL),
        _only_prompts("43981e81d6bb"),
        BY_CONSTRUCTION,
    ),
    Format(
        "wizard101 raw harmless",
        columns("prompt"),
        Constant("prompt", UNHARMFUL),
        _only_prompts("a7ea16950e77"),
        BY_CONSTRUCTION,
    ),
    Format(
        "in-the-wild jailbreaks", columns("prompt"), Constant("prompt", HARMFUL), _only_prompts("4b26e29ba2a0"), WEAK
    ),
    Format(
        "lrm safety study",
        columns("prompt response data_type"),
        _refused_pair,
        begins_with("prompt", "bc6b52fa4f9a"),
        BY_CONSTRUCTION,
    ),
    Format("pap rewrites", columns("query final_query"), Constant("final_query", HARMFUL), note=BY_CONSTRUCTION),
    Format(
        "catqa",
        columns("prompt category subcategory"),
        Constant("prompt", HARMFUL),
        # English, Chinese, Vietnamese.
        begins_with("prompt", "8f1759def022", "71c01425ee6a", "916c675006d7"),
        BY_CONSTRUCTION,
    ),
    Format(
        "instructions",
        columns("instruction output"),
        _answered(NO_LABELS),
        _has_no_other_prompt,
        note="its columns say nothing about harm, so its rows have no labels",
    ),
)
