"""Known sets of instructions, and of bare prompts. None has a label column: the set itself implies the labels.

So the file's name decides, and a file with the same columns under another name is imported without labels.
"""

from collections.abc import Callable, Mapping

from wizloop.loop.data.formats import (
    HARMFUL,
    NO_LABELS,
    TEXT_COLUMNS,
    UNHARMFUL,
    Content,
    Format,
    columns,
    constant,
    named_like,
)
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


def _implied(name: str, needed: frozenset[str], read: Callable[[Record], Content], *files: str) -> Format:
    """Return the format of a set whose labels follow from its construction, in files named like one of `files`."""
    return Format(name, needed, read, named_like(*files or ("",)), BY_CONSTRUCTION)


def _bare_prompts(name: str, labels: Mapping[Task, str], *files: str, note: str = BY_CONSTRUCTION) -> Format:
    """Return the format of a list of bare texts. It has no column to recognize it by, so its file's name decides."""

    def recognizes(record: Record, file: str) -> bool:
        return record.keys() == {"prompt"} and file.casefold().startswith(files)

    return Format(name, columns("prompt"), constant("prompt", labels), recognizes, note)


def _has_no_other_prompt(record: Record, _name: str) -> bool:
    return record.keys().isdisjoint(TEXT_COLUMNS)


INSTRUCTION_SETS: tuple[Format, ...] = (
    _implied("alpaca", INSTRUCTION, _answered(ORDINARY), "alpaca"),
    _implied(
        "alpaca instructions",
        columns("instruction category"),
        constant("instruction", UNHARMFUL),
        *("alpaca", "harmless"),
    ),
    # The instruction alone: it has many inputs, and choosing one would be arbitrary.
    _implied(
        "alpaca seed tasks",
        columns("instruction instances is_classification"),
        constant("instruction", UNHARMFUL, policy=""),
    ),
    _implied("safety-tuned llamas", INSTRUCTION, _answered({"response": "unharmful"}), "safety_only"),
    _bare_prompts(
        "safety-tuned llamas harmful",
        HARMFUL,
        *("i-cona", "i-maliciousinstructions", "i-physicalsafetyunsafe", "q-harm"),
    ),
    _bare_prompts("safety-tuned llamas unharmful", UNHARMFUL, "i-alpaca", "i-physicalsafetysafe"),
    _bare_prompts("wizard101 raw harmful", HARMFUL, "raw_harmful_behaviors"),
    _bare_prompts("wizard101 raw harmless", UNHARMFUL, "raw_harmless_alpaca"),
    _bare_prompts("in-the-wild jailbreaks", HARMFUL, "inthewild_jailbreak", note=WEAK),
    _implied("lrm safety study", columns("prompt response data_type"), _refused_pair, "sft_train_nocot"),
    _implied("pap rewrites", columns("query final_query"), constant("final_query", HARMFUL)),
    _implied("catqa", columns("prompt category subcategory"), constant("prompt", HARMFUL), "catqa"),
    Format(
        "instructions",
        columns("instruction output"),
        _answered(NO_LABELS),
        _has_no_other_prompt,
        note="its columns say nothing about harm, so its rows have no labels",
    ),
)
