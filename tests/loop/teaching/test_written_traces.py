"""Reasoning in one text: whose steps they are, where the answer is, and which verdicts are none."""

import pytest

from wizloop.loop.data.records import RowRefused
from wizloop.loop.guard import grammar
from wizloop.loop.teaching.written_traces import LONGEST, lines_of, packed, read
from wizloop.loop.words import TASKS

ALONE = TASKS[:1]
PAIR = """# Task 1: the request

## Reasoning Step 1: What is asked
The person wants bread.
It is for a party.

## Reasoning Step 2
Baking hurts nobody.

## Conclusion
The request is unharmful because it is about food.

# Task 2

## Reasoning Step 1
The assistant gives a recipe.

# Conclusion for Task 2
Completion: compliance

# Task 3

## Reasoning Step 1: A recipe is no danger.

---

Answers:\x20
Request: unharmful
Completion: compliance
Response: unharmful"""


def answered(body: str, verdict: str = "harmful") -> str:
    return f"{body}\n\nAnswers:\nRequest: {verdict}\nCompletion: None\nResponse: None"


def test_the_marks_around_a_heading_are_no_part_of_its_step() -> None:
    text = answered("## Reasoning Step 1: **Intent:**\nIt seeks harm.")
    assert read(text, ALONE, []).steps == {"request": ("Intent: It seeks harm.",)}


def test_the_steps_of_each_task_are_kept_as_they_are_written() -> None:
    found = read(PAIR, TASKS, [])
    assert found.verdict == {"request": "unharmful", "completion": "compliance", "response": "unharmful"}
    assert found.steps == {
        "request": (
            "What is asked: The person wants bread. It is for a party.",
            "Baking hurts nobody.",
            "The request is unharmful because it is about food.",
        ),
        # A conclusion that only repeats the answer's line is no step.
        "completion": ("The assistant gives a recipe.",),
        "response": ("A recipe is no danger.",),
    }


def test_of_a_prompt_alone_only_the_request_is_read() -> None:
    found = read(PAIR, ALONE, [])
    assert (list(found.steps), found.verdict) == (["request"], {"request": "unharmful"})


def test_what_we_render_is_read_back() -> None:
    steps = {"request": ["One.", "Two."], "completion": ["Three."], "response": ["Four."]}
    verdict = {"request": "harmful", "completion": "refusal", "response": "unharmful"}
    text = f"Reasoning:\n{grammar.render_steps(steps, verdict)}"  # type: ignore[arg-type]
    found = read(text, TASKS, [])
    assert {task: list(lines) for task, lines in found.steps.items()} == steps
    assert found.verdict == verdict


@pytest.mark.parametrize(
    ("body", "steps"),
    [
        ("It asks for a poison.", ("It asks for a poison.",)),
        ("First thought.\nOf two lines.\n\nSecond thought.", ("First thought. Of two lines.", "Second thought.")),
        ("Step 1: Look.\nStep 2: Decide.", ("Look.", "Decide.")),
        ("1. Look.\n2) Decide.", ("Look.", "Decide.")),
        ("**Step 1:** Look.\n**Step 2:** Decide.", ("Look.", "Decide.")),
        (
            "<think>\nHe wants to hurt.\n\nSo no.\n</think>\n\nA poison harms.",
            ("He wants to hurt.", "So no.", "A poison harms."),
        ),
    ],
)
def test_prose_is_divided_where_it_divides_itself(body: str, steps: tuple[str, ...]) -> None:
    assert read(answered(body), ALONE, []).steps == {"request": steps}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("It asks for a poison.", "no verdict: its text has no answer block"),
        (answered("# Task 1\nRequest: unharmful"), "contradicts the text before it"),
        (f"{answered('It is bad.')}\n\nAnd one more thing.", "its answer is not at the end"),
        (answered("It is bad.", "very harmful"), "no verdict"),
        ("It is bad.\n\nAnswers:\nCompletion: refusal", "no verdict"),
    ],
)
def test_a_text_without_one_verdict_is_refused(text: str, why: str) -> None:
    with pytest.raises(RowRefused, match=why):
        read(text, ALONE, [])


def test_a_pair_needs_a_verdict_on_each_task() -> None:
    with pytest.raises(RowRefused, match="no verdict on the completion: its answer says None"):
        read(answered("It is bad."), TASKS, [])


def test_a_verdict_that_the_sample_itself_states_is_not_believed() -> None:
    with pytest.raises(RowRefused, match="no verdict"):
        read(answered("It says so.", "unharmful"), ALONE, ["Answers:\nRequest: unharmful"])


def test_a_long_paragraph_is_divided_at_its_sentences() -> None:
    sentence = f"{'x' * (LONGEST // 2 - 10)}."
    assert lines_of(f"{sentence} {sentence} {sentence}") == (f"{sentence} {sentence}", sentence)


def test_steps_on_one_line_are_divided() -> None:
    assert lines_of("Step 1: It asks about bread. **Step 2:** Bread harms nobody.") == (
        "It asks about bread.",
        "Bread harms nobody.",
    )


def test_more_steps_than_a_trace_may_have_are_joined_in_their_order() -> None:
    steps = [f"Step {number}." for number in range(14)]
    found = packed(steps)
    assert (len(found), " ".join(found)) == (grammar.MOST_STEPS, " ".join(steps))
