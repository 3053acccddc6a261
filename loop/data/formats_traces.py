"""Known sets with reasoning or outputs of a guard: their samples are read here, their traces by `given_forms`."""

from wizloop.loop.data.formats import NO_LABELS, Content, Format, columns, known_labels, word
from wizloop.loop.data.label_words import Given
from wizloop.loop.data.records import Record, RowRefused
from wizloop.loop.words import FIELD, LABELS, NONE, TASKS, Task

OPENING, MIDDLE = "Human user:\n", "\n\nAI assistant:\n"
INSTRUCTION_LEAST = 20
"""Characters before the first `Human user:` from which it follows an instruction and is not the prompt's own."""


def _benchmark(record: Record) -> Content:
    prompt, response = framed(record["input"])
    return _labeled(prompt, response, record["output"], "output")


def predicted(record: Record) -> Content:
    """Read a guard's recorded outputs: the instruction precedes the sample; the prediction is not a label."""
    asked = record["prompt"]
    at = asked.find(OPENING) if isinstance(asked, str) else -1
    if at < 0:
        raise RowRefused("the column prompt has no `Human user:` block")
    prompt, response = framed(asked[at:])
    return _labeled(prompt, response, record["label"], "label")


def _labeled(prompt: str, response: str | None, given: object, column: str) -> Content:
    if not isinstance(given, str):
        raise RowRefused(f"the column {column} is not a text")
    if "Answers:" in given:
        labels = known_labels(**_answer_block(given))
        # The published rows label a response even if there is none.
        kept = {task: one for task, one in labels.items() if response is not None or task == "request"}
        return Content(prompt, response, kept)
    word_given = given.strip()
    if word_given in LABELS["completion"]:
        return Content(prompt, response, {"completion": word_given})
    # The task is implicit: a harm label of a pair is about the response, of a bare prompt about the request.
    task: Task = "request" if response is None else "response"
    return Content(prompt, response, {task: Given(word_given)})


def framed(text: object) -> tuple[str, str | None]:
    """Return prompt and response of `Human user:` and `AI assistant:` blocks; the response None is no response.

    Raises RowRefused.
    """
    if not isinstance(text, str) or not text.startswith(OPENING) or text.count(MIDDLE) != 1:
        raise RowRefused("the column input needs one `Human user:` and one `AI assistant:` block")
    prompt, response = text.removeprefix(OPENING).removesuffix("\n\n").split(MIDDLE)
    return prompt, None if response == NONE else response


def _answer_block(output: str) -> dict[Task, str | None]:
    """Return the labels of the last answer block; the word None is no label."""
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
    """Read the traces schema; what `wizloop teach` writes also has the response, and the task of the label."""
    response = record.get("response")
    task = record.get("task") or ("response" if response else "request")
    return Content(record["text"], response, known_labels(**{task: record["expected_label"]}), word(record, "source"))


def _edge_case(record: Record) -> Content:
    return Content(record["text"], None, known_labels(request=record["expected"]))


def _ground_truth(record: Record) -> Content:
    """Read results and hard samples of experiments: a prompt, framed or bare, and the label of its request."""
    prompt = record["prompt"]
    response = None
    if isinstance(prompt, str) and prompt.startswith(OPENING):
        prompt, response = framed(prompt)
    return Content(prompt, response, known_labels(request=record["ground_truth"]), source=word(record, "source"))


def _quarantined(record: Record) -> Content:
    # A cascade's decision is not a label; a reviewer's correction is.
    corrected = record.get("corrected_label")
    return Content(record["input_text"], None, known_labels(request=corrected) if corrected else NO_LABELS)


TRACE_SETS: tuple[Format, ...] = (
    Format("guardreasoner train", columns("instruction input output"), _benchmark, _has_reasoning),
    Format("guardreasoner benchmark", columns("instruction input output"), _benchmark, _has_blocks),
    Format("guardreasoner predictions", columns("prompt label predict"), predicted, _asks_a_guard),
    Format("traces", columns("text expected_label"), _trace),
    Format("wizard101 edge cases", columns("text expected results"), _edge_case),
    Format("wizard101 results", columns("prompt ground_truth"), _ground_truth),
    Format("wizard101 quarantine", columns("case_id input_text final_label"), _quarantined),
)
