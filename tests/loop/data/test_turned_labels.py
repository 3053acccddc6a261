"""Labels that a file turns, takes back or contradicts: none is read the wrong way round in silence."""

from pathlib import Path

import pytest

from tests.loop.data.whole_files import labeled, labels_of, note_of, read_file, refusal, written
from wizloop.loop.data.records import ImportRefused

H, U = "harmful", "unharmful"
TURNED = {
    "is_safe": (True, False),
    "isUnsafe": ("0", "1"),
    "label_text": ("unharmful", "harmful"),
    "class": ("Safe", "Unsafe"),
}


@pytest.mark.parametrize(
    "answers", [("Accept", "REJECT", " ignore "), ("", "reject", "accept"), (None, "reject", "accept")]
)
def test_an_annotators_answer_is_known_in_any_case_and_after_rows_without_one(
    tmp_path: Path, answers: tuple[str | None, ...]
) -> None:
    path = written(tmp_path, *({"text": f"t{at}", "label": "safe", "answer": one} for at, one in enumerate(answers)))
    means = {"accept": U, "reject": H}
    assert labels_of(path, "pool") == [means.get((one or "").strip().casefold()) for one in answers]


@pytest.mark.parametrize(
    "names", [("Prompt", "Completion", "Label"), ("text", "completion", "label"), ("prompt", "completion ", "LABEL")]
)
def test_a_preference_is_known_however_its_columns_are_written(tmp_path: Path, names: tuple[str, ...]) -> None:
    path = written(tmp_path, *(dict(zip(names, (f"p{one}", "c", one), strict=True)) for one in (True, False)))
    assert labels_of(path, "pool") == [None, None]
    assert "preference" in note_of(path)
    assert "no row can be used for seed" in refusal(path)


@pytest.mark.parametrize("column", TURNED)
def test_a_column_that_says_the_opposite_of_the_label_refuses_the_file(tmp_path: Path, column: str) -> None:
    rows = [{"text": f"t{at}", "label": 1 - at % 2, column: TURNED[column][at % 2]} for at in range(6)]
    path = written(tmp_path, *rows)
    with pytest.raises(
        ImportRefused, match=f"{column} says the opposite of what label is read as.*--map {column}=label"
    ):
        read_file(path, split="pool")
    assert labels_of(path, map={"label": column}) == [U, H] * 3
    assert labels_of(path, label={"1": "unharmful", "0": "harmful"}) == [U, H] * 3
    agreeing = written(tmp_path, *({**row, "label": at % 2} for at, row in enumerate(rows)))
    assert labels_of(agreeing) == [U, H] * 3


def test_a_column_about_the_answer_contradicts_no_label_of_the_request(tmp_path: Path) -> None:
    beside = {"is_response_safe": True, "blocked": False, "safe": 1}
    rows = [{"prompt": f"p{at}", "response": "r", "label": 1, **beside} for at in range(4)]
    assert labels_of(written(tmp_path, *rows)) == [H] * 4


@pytest.mark.parametrize(
    "beside", [{"label": 1, "predicted": "safe"}, {"label": 1, "guard_verdict": "safe"}, {"label": H, "said": "safe"}]
)
def test_a_list_of_a_guards_errors_contradicts_nothing(tmp_path: Path, beside: dict[str, object]) -> None:
    assert labels_of(written(tmp_path, *({"prompt": f"p{at}", **beside} for at in range(4)))) == [H] * 4


def test_a_word_of_several_lines_is_mapped_in_a_recipe(tmp_path: Path) -> None:
    told = refusal(labeled(tmp_path, "safe", "bad\n\x1b[2J"))
    assert "say what each means (or" in told
    assert "\n" not in told
    assert "\x1b" not in told
    assert r'label = {"bad\n\u001b[2J" = "harmful"}' in told


@pytest.mark.parametrize(
    ("record", "prompt"),
    [
        ({"goal": "a", "target": "Sure", "label": "?"}, "goal"),
        ({"forbidden_prompt": "a", "category": "c", "Label": "?"}, "forbidden_prompt"),
        ({"harm_area": "h", "category": "c", "prompt": "a", "label": "?"}, "prompt"),
    ],
)
def test_the_columns_of_a_harmful_set_do_not_outweigh_a_files_own_label(
    tmp_path: Path, record: dict[str, str], prompt: str
) -> None:
    label = next(name for name in record if name.casefold() == "label")
    path = written(tmp_path, *(record | {prompt: f"p{at}", label: str(at % 2)} for at in range(4)))
    assert labels_of(path) == [U, H] * 2
    assert "assumed of every row" not in note_of(path)


def test_a_set_whose_answers_imply_labels_asks_for_the_prompt_beside_a_label(tmp_path: Path) -> None:
    path = written(tmp_path, {"question": "q", "risk_area": "r", "label": "safe"})
    with pytest.raises(ImportRefused, match="--map COLUMN=prompt"):
        read_file(path, split="pool")
    assert labels_of(path, map={"prompt": "question"}) == [U]
