"""What the columns of known files mean: which is the prompt, which the response, which labels they carry.

A format turns one record into a sample's text and labels, or refuses it with a reason. A label that it does not know is
refused, never guessed. Files are opened elsewhere.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from wizloop.loop.containers import Record, RowRefused
from wizloop.loop.words import FIELD, LABELS, NONE, TASKS, Task

HARM: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("safe", "benign", "unharmful", "harmless", "0", "false"), "unharmful"),
        **dict.fromkeys(("unsafe", "harmful", "1", "true", "toxic"), "harmful"),
    }
)
"""The words for harm that are understood, case-folded."""

COMPLETION: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("refusal", "2_full_refusal"), "refusal"),
        **dict.fromkeys(("compliance", "1_full_compliance"), "compliance"),
    }
)

TEXT_COLUMNS = ("prompt", "text", "content")
"""The first of these that a record has is the prompt."""


@dataclass(frozen=True)
class Content:
    """What a record says, before its text is checked."""

    prompt: Any
    response: Any = None
    labels: Mapping[Task, str] = field(default_factory=dict)
    source: str | None = None
    policy: str | None = None


@dataclass(frozen=True)
class Format:
    """A known shape of record. `read` raises RowRefused for a label that it does not know."""

    name: str
    columns: frozenset[str]
    """Every record must have these."""
    read: Callable[[Record], Content]
    recognises: Callable[[Record], bool] = lambda _: True
    """What a first record with these columns must show besides."""


def label(value: Any, task: Task) -> str:
    """A foreign label in the words of the task. Raises RowRefused for null, an empty one, or an unknown one."""
    if value is None or value == "":
        raise RowRefused(f"no {task} label")
    known = COMPLETION if task == "completion" else HARM
    word = str(value).strip().casefold()
    if not isinstance(value, str | int) or word not in known:
        positive, negative = LABELS[task]
        raise RowRefused(f"unknown {task} label {str(value)[:40]!r}: write {positive} or {negative}")
    return known[word]


def columns_format(task: Task) -> Format:
    """The general case: a text column, perhaps `response`, and perhaps `label`, which speaks about `task`."""

    def read(record: Record) -> Content:
        prompt = next((record[name] for name in TEXT_COLUMNS if name in record), None)
        labels = {task: label(record["label"], task)} if "label" in record else {}
        return Content(prompt, record.get("response"), labels, _word(record, "source"), _word(record, "policy"))

    return Format("columns", frozenset(), read)


def mapped_format(mapping: Mapping[str, str], task: Task) -> Format:
    """Columns as the mapping names them: {"prompt": "question", "response_label": "harmful?"}.

    Keys are prompt, response, source, policy, label (which speaks about `task`) and request_label, completion_label,
    response_label. A value that begins with "=" is not a column but the same word for every row. A null or empty
    `label` refuses the row; one of the other three is no label for its task.
    """

    def value(record: Record, key: str) -> Any:
        column = mapping.get(key, "")
        return column[1:] if column.startswith("=") else record.get(column)

    def read(record: Record) -> Content:
        if missing := [column for column in mapping.values() if not column.startswith("=") and column not in record]:
            raise RowRefused(f"no column {missing[0]!r}, which the mapping names")
        labels = _known({one: value(record, f"{one}_label") for one in TASKS})
        if "label" in mapping:
            labels[task] = label(value(record, "label"), task)
        source, policy = value(record, "source"), value(record, "policy")
        return Content(
            value(record, "prompt"),
            value(record, "response"),
            labels,
            source if isinstance(source, str) else None,
            policy if isinstance(policy, str) else None,
        )

    return Format("mapped columns", frozenset(), read)


def _wildguard(record: Record) -> Content:
    labels = _known(
        {
            "request": record["prompt_harm_label"],
            "completion": record["response_refusal_label"],
            "response": record["response_harm_label"],
        }
    )
    return Content(record["prompt"], record["response"], labels, policy=_word(record, "subcategory"))


def _xstest_completion(record: Record) -> Content:
    # Contrasts are the unsafe twins of the safe kinds. A partial refusal is neither of our two labels.
    request = "harmful" if str(record["type"]).startswith("contrast") else "unharmful"
    final = record["final_label"]
    labels = _known({"request": request, "completion": None if final == "3_partial_refusal" else final})
    return Content(record["prompt"], record["completion"], labels)


def _guardreasoner(record: Record) -> Content:
    prompt, response = _framed(record["input"])
    output = record["output"]
    if not isinstance(output, str):
        raise RowRefused("the column output is no text")
    if "Answers:" in output:
        return Content(prompt, response, _known(_answer_block(output)))
    word = output.strip()
    if word in LABELS["completion"]:
        return Content(prompt, response, {"completion": word})
    # The file does not say which: a harm label of a pair is about the response, of a bare prompt about the request.
    task: Task = "request" if response is None else "response"
    return Content(prompt, response, {task: label(word, task)})


def _toxic_chat(record: Record) -> Content:
    try:
        human = record["annotations"]["toxicity"]["majority_human"]
    except (KeyError, TypeError):
        human = None
    if human is None:
        raise RowRefused("no human annotation of toxicity")
    return Content(record["instance"], None, {"request": label(human, "request")})


def _openai_moderation(record: Record) -> Content:
    # A flag that is missing is unknown; unharmful is what no known flag contradicts.
    flags = [record[name] for name in MODERATION_FLAGS if record.get(name) is not None]
    if not flags or any(flag not in (0, 1) for flag in flags):
        raise RowRefused("no category flag, or one that is neither 0 nor 1")
    return Content(record["prompt"], None, {"request": "harmful" if 1 in flags else "unharmful"})


def _has_blocks(record: Record) -> bool:
    return isinstance(record["input"], str) and record["input"].startswith("Human user:\n")


def _has_toxicity(record: Record) -> bool:
    return isinstance(record["annotations"], dict) and "toxicity" in record["annotations"]


def _has_only_flags(record: Record) -> bool:
    return bool(record.keys() - {"prompt"}) and record.keys() - {"prompt"} <= MODERATION_FLAGS


MODERATION_FLAGS = frozenset(("S", "H", "V", "HR", "SH", "S3", "H2", "V2"))
WILDGUARD_COLUMNS = frozenset(
    ("prompt", "response", "prompt_harm_label", "response_refusal_label", "response_harm_label")
)

KNOWN: tuple[Format, ...] = (
    Format("wildguard", WILDGUARD_COLUMNS, _wildguard),
    Format("xstest completions", frozenset(("prompt", "completion", "type", "final_label")), _xstest_completion),
    Format("guardreasoner benchmark", frozenset(("instruction", "input", "output")), _guardreasoner, _has_blocks),
    Format("toxicchat", frozenset(("instance", "annotations")), _toxic_chat, _has_toxicity),
    Format("openai moderation", frozenset(("prompt",)), _openai_moderation, _has_only_flags),
)
"""The files that are recognised from their first record; the first that fits is taken."""


def recognised(record: Record, task: Task) -> Format | None:
    """The format that a file's first record shows; None where there is neither a known shape nor a text column."""
    for known in KNOWN:
        if known.columns <= record.keys() and known.recognises(record):
            return known
    return columns_format(task) if any(name in record for name in TEXT_COLUMNS) else None


def _framed(text: Any) -> tuple[str, str | None]:
    """Prompt and response of `Human user:` and `AI assistant:` blocks; a response of the word None is none."""
    opening, middle = "Human user:\n", "\n\nAI assistant:\n"
    if not isinstance(text, str) or not text.startswith(opening) or text.count(middle) != 1:
        raise RowRefused("the column input has not one `Human user:` and one `AI assistant:` block")
    prompt, response = text.removeprefix(opening).removesuffix("\n\n").split(middle)
    return prompt, None if response == NONE else response


def _answer_block(output: str) -> dict[Task, str | None]:
    """The labels of an answer block; the word None is no label."""
    fields = dict(line.split(": ", 1) for line in output.splitlines() if ": " in line and line != "Answers: ")
    return {task: None if fields.get(name) == NONE else fields.get(name) for task, name in FIELD.items()}


def _known(values: Mapping[Task, Any]) -> dict[Task, str]:
    """The labels that are there; null and empty are no label."""
    return {task: label(value, task) for task, value in values.items() if value is not None and value != ""}


def _word(record: Record, column: str) -> str | None:
    value = record.get(column)
    return value if isinstance(value, str) and value else None
