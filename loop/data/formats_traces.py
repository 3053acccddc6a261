"""Known sets that come with reasoning or with outputs of a guard: their samples are read, their traces are not."""

from wizloop.loop.data.containers import Record, RowRefused
from wizloop.loop.data.formats import NO_LABELS, Content, Format, known_labels, label, word
from wizloop.loop.words import FIELD, LABELS, NONE, TASKS, Task

OPENING, MIDDLE = "Human user:\n", "\n\nAI assistant:\n"
INSTRUCTION_LEAST = 20
"""Characters in front of the first `Human user:` from which it stands in an instruction and not in a prompt."""


def _benchmark(record: Record) -> Content:
    prompt, response = framed(record["input"])
    return _labelled(prompt, response, record["output"], "output")


def _predictions(record: Record) -> Content:
    """A guard's recorded outputs: the instruction stands in front of the sample; what was predicted is no label."""
    asked = record["prompt"]
    at = asked.find(OPENING) if isinstance(asked, str) else -1
    if at < 0:
        raise RowRefused("the column prompt has no `Human user:` block")
    prompt, response = framed(asked[at:])
    return _labelled(prompt, response, record["label"], "label")


def _labelled(prompt: str, response: str | None, given: object, column: str) -> Content:
    if not isinstance(given, str):
        raise RowRefused(f"the column {column} is no text")
    if "Answers:" in given:
        labels = known_labels(_answer_block(given))
        # The published rows judge a response even where there is none: such a label is about nothing.
        kept = {task: one for task, one in labels.items() if response is not None or task == "request"}
        return Content(prompt, response, kept)
    word_given = given.strip()
    if word_given in LABELS["completion"]:
        return Content(prompt, response, {"completion": word_given})
    # The file does not say which: a harm label of a pair is about the response, of a bare prompt about the request.
    task: Task = "request" if response is None else "response"
    return Content(prompt, response, {task: label(word_given, task)})


def framed(text: object) -> tuple[str, str | None]:
    """Prompt and response of `Human user:` and `AI assistant:` blocks; a response of the word None is none.

    Raises RowRefused.
    """
    if not isinstance(text, str) or not text.startswith(OPENING) or text.count(MIDDLE) != 1:
        raise RowRefused("the column input has not one `Human user:` and one `AI assistant:` block")
    prompt, response = text.removeprefix(OPENING).removesuffix("\n\n").split(MIDDLE)
    return prompt, None if response == NONE else response


def _answer_block(output: str) -> dict[Task, str | None]:
    """The labels of the last answer block; the word None is no label."""
    block = output.rpartition("Answers:")[2]
    fields = dict(line.strip().split(": ", 1) for line in block.splitlines() if ": " in line)
    return {task: None if fields.get(FIELD[task]) == NONE else fields.get(FIELD[task]) for task in TASKS}


def _has_blocks(record: Record, _name: str) -> bool:
    return isinstance(record["input"], str) and record["input"].startswith(OPENING)


def _has_reasoning(record: Record, name: str) -> bool:
    return _has_blocks(record, name) and "## Reasoning Step" in str(record["output"])


def _asks_a_guard(record: Record, _name: str) -> bool:
    return isinstance(record["prompt"], str) and record["prompt"].find(OPENING) >= INSTRUCTION_LEAST


def _trace(record: Record) -> Content:
    return Content(
        record["text"], None, known_labels({"request": record["expected_label"]}), source=word(record, "source")
    )


def _edge_case(record: Record) -> Content:
    return Content(record["text"], None, known_labels({"request": record["expected"]}))


def _ground_truth(record: Record) -> Content:
    """Results and hard samples of experiments: a prompt, framed or bare, and what its request was held to be."""
    prompt = record["prompt"]
    response = None
    if isinstance(prompt, str) and prompt.startswith(OPENING):
        prompt, response = framed(prompt)
    return Content(prompt, response, known_labels({"request": record["ground_truth"]}), source=word(record, "source"))


def _quarantined(record: Record) -> Content:
    # What a cascade decided is no label; what a reviewer corrected it to is one.
    corrected = record.get("corrected_label")
    return Content(record["input_text"], None, known_labels({"request": corrected}) if corrected else NO_LABELS)


TRACE_SETS: tuple[Format, ...] = (
    Format("guardreasoner train", frozenset(("instruction", "input", "output")), _benchmark, _has_reasoning),
    Format("guardreasoner benchmark", frozenset(("instruction", "input", "output")), _benchmark, _has_blocks),
    Format("guardreasoner predictions", frozenset(("prompt", "label", "predict")), _predictions, _asks_a_guard),
    Format("traces", frozenset(("text", "expected_label")), _trace),
    Format("wizard101 edge cases", frozenset(("text", "expected", "results")), _edge_case),
    Format("wizard101 results", frozenset(("prompt", "ground_truth")), _ground_truth),
    Format("wizard101 quarantine", frozenset(("case_id", "input_text", "final_label")), _quarantined),
)
