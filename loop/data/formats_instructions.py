"""Known sets of instructions, and of bare prompts. None has a label column: the set itself says what they are.

So the file's name decides, and a file of the same columns under another name comes in without labels.
"""

from collections.abc import Callable, Mapping

from wizloop.loop.data.containers import BadRow, Record
from wizloop.loop.data.formats import NO_LABELS, TEXT_COLUMNS, Content, Format, word
from wizloop.loop.words import Task

INSTRUCTION = frozenset(("instruction", "input", "output"))
ORDINARY: Mapping[Task, str] = {"request": "unharmful", "completion": "compliance", "response": "unharmful"}
"""An ordinary instruction and its ordinary answer."""
REFUSED: Mapping[Task, str] = {"request": "harmful", "completion": "refusal", "response": "unharmful"}
BY_CONSTRUCTION = "its labels are not a person's: they follow from how the set was made"

WEAK = "its label is weak: the frame attacks, and what it asks for may be missing"

_LLAMAS_HARMFUL = ("i-cona", "i-maliciousinstructions", "i-physicalsafetyunsafe", "q-harm")
_LLAMAS_UNHARMFUL = ("i-alpaca", "i-physicalsafetysafe")
_PROMPT = frozenset(("prompt",))


def _answered(labels: Mapping[Task, str]) -> Callable[[Record], Content]:
    """A reader of instruction, input and output that are of the same labels throughout."""
    return lambda record: Content(_instruction(record), record["output"], labels)


def _instruction(record: Record) -> str:
    """The instruction with what it is about, if there is any, on the next line. Raises BadRow."""
    given, about = record["instruction"], record.get("input")
    if not isinstance(given, str) or not isinstance(about, str | None):
        raise BadRow("the instruction or its input is no text")
    return f"{given}\n{about}" if about else given


def _seed_task(record: Record) -> Content:
    """The instruction alone: it has many inputs, and which one it stands for is nobody's choice."""
    return Content(record["instruction"], None, {"request": "unharmful"})


def _bare(labels: Mapping[Task, str], column: str = "prompt") -> Callable[[Record], Content]:
    return lambda record: Content(record[column], None, labels, None, word(record, "category"))


def _named(*parts: str) -> Callable[[Record, str], bool]:
    return lambda _record, name: any(part in name.casefold() for part in parts)


def _one_of(names: tuple[str, ...]) -> Callable[[Record, str], bool]:
    """Nothing but a prompt, in a file of one of these names: lists of bare texts have no column to know them by."""
    return lambda record, name: record.keys() == {"prompt"} and name.casefold().startswith(names)


def _has_no_other_prompt(record: Record, _name: str) -> bool:
    return record.keys().isdisjoint(TEXT_COLUMNS)


INSTRUCTION_SETS: tuple[Format, ...] = (
    Format("alpaca", INSTRUCTION, _answered(ORDINARY), _named("alpaca"), BY_CONSTRUCTION),
    Format(
        "alpaca instructions",
        frozenset(("instruction", "category")),
        _bare({"request": "unharmful"}, "instruction"),
        _named("alpaca", "harmless"),
        BY_CONSTRUCTION,
    ),
    Format(
        "alpaca seed tasks",
        frozenset(("instruction", "instances", "is_classification")),
        _seed_task,
        note=BY_CONSTRUCTION,
    ),
    Format(
        "safety-tuned llamas",
        INSTRUCTION,
        _answered({"response": "unharmful"}),
        _named("safety_only"),
        BY_CONSTRUCTION,
    ),
    Format(
        "safety-tuned llamas harmful",
        _PROMPT,
        _bare({"request": "harmful"}),
        _one_of(_LLAMAS_HARMFUL),
        BY_CONSTRUCTION,
    ),
    Format(
        "safety-tuned llamas unharmful",
        _PROMPT,
        _bare({"request": "unharmful"}),
        _one_of(_LLAMAS_UNHARMFUL),
        BY_CONSTRUCTION,
    ),
    Format(
        "wizard101 raw harmful",
        _PROMPT,
        _bare({"request": "harmful"}),
        _one_of(("raw_harmful_behaviors",)),
        BY_CONSTRUCTION,
    ),
    Format(
        "wizard101 raw harmless",
        _PROMPT,
        _bare({"request": "unharmful"}),
        _one_of(("raw_harmless_alpaca",)),
        BY_CONSTRUCTION,
    ),
    Format("in-the-wild jailbreaks", _PROMPT, _bare({"request": "harmful"}), _one_of(("inthewild_jailbreak",)), WEAK),
    Format(
        "lrm safety study",
        frozenset(("prompt", "response", "data_type")),
        lambda record: Content(record["prompt"], record["response"], REFUSED),
        _named("sft_train_nocot"),
        BY_CONSTRUCTION,
    ),
    Format(
        "pap rewrites",
        frozenset(("query", "final_query")),
        _bare({"request": "harmful"}, "final_query"),
        note=BY_CONSTRUCTION,
    ),
    Format(
        "catqa",
        frozenset(("prompt", "category", "subcategory")),
        _bare({"request": "harmful"}),
        _named("catqa"),
        BY_CONSTRUCTION,
    ),
    Format(
        "instructions",
        frozenset(("instruction", "output")),
        _answered(NO_LABELS),
        _has_no_other_prompt,
        note="its columns say nothing of harm, so that no label is given",
    ),
)
