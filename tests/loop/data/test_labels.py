"""Which label a row gets: by the words of its file, by what the user says of them, and never by a guess."""

import csv
from pathlib import Path
from typing import Any

import pytest

from tests.loop.data.whole_files import (
    label_counts,
    labeled,
    labels_of,
    note_of,
    read_file,
    refusal,
    report_of,
    written,
)
from tests.where import SHARED_DATA
from wizloop.loop.data.records import ImportRefused
from wizloop.loop.data.sample_rows import Refused

CASES = SHARED_DATA.parent / "cases"
H, U = "harmful", "unharmful"
BOTH = {"request": {H: 5, U: 5}}
NOTHING: list[Any] = [None, [], [None], [[[]]], "", " n/a ", "None", "nan", "NaN", "N/A", "null", "<NA>"]
NOTHING += ["-", "--", "n.a.", "\\N", "nil", "(null)"]
HARMS: list[Any] = [1.0, ["unsafe"], "1.0", "1.00", "True", "unsafe\nS2", "Unsafe\nS2, S10", "\nunsafe\nO3"]
HARMS += [
    "unsafe\nS1\nS2",
    "unsafe\nViolence and Hate",
    "unsafe, S4",
    "unsafe<|eot|>",
    "unsafe\\nS1",
    "['unsafe']",
    '["unsafe"]',
]
NO_HARMS: list[Any] = [0.0, "0.0", "-0.0", "safe\n", "safe.", "safe<|eot_id|>", "safe<|eot|>", "safe</s>"]
NO_HARMS += ["non-toxic", "Non_Toxic", "nontoxic"]


def case(name: str) -> Path:
    path = CASES / name
    if not path.exists():
        pytest.skip(f"{name} of the cases is not here")
    return path


@pytest.mark.parametrize(
    "value", ["maybe", 2, 0.5, ["safe", "unsafe"], {"safe": 1}, [{}], "not safe", "un-safe", "yes", "no"]
)
def test_a_word_that_is_not_known_is_never_guessed(tmp_path: Path, value: Any) -> None:
    path = labeled(tmp_path, "safe", value, "unsafe")
    assert labels_of(path, "pool") == [U, None, H]
    got = read_file(path, split="seed")
    assert [row.prompt for row in got.rows] == ["text 0", "text 2"]
    assert got.refused[0].reason.startswith("unknown request label ")
    assert str(got.fault).startswith(f"{path}: 1 of its 3 rows have a request label that is not known: ")


@pytest.mark.parametrize("value", NOTHING)
def test_what_stands_where_nothing_is_known_is_no_label(tmp_path: Path, value: Any) -> None:
    path = labeled(tmp_path, "safe", value, "unsafe")
    assert labels_of(path, "pool") == [U, None, H]
    assert read_file(path, split="seed").refused == [Refused(2, "no request label")]


@pytest.mark.parametrize(("value", "label"), [*((one, H) for one in HARMS), *((one, U) for one in NO_HARMS)])
def test_spellings_of_known_words(tmp_path: Path, value: Any, label: str) -> None:
    assert labels_of(labeled(tmp_path, value)) == [label]


@pytest.mark.parametrize("response", ["None", "nan", "N/A", "null", "-", "n.a.", "\\N", ""])
def test_a_word_for_no_response_is_none(tmp_path: Path, response: str) -> None:
    path = written(tmp_path, {"prompt": "p", "response": response, "label": "safe"})
    (row,) = read_file(path, split="seed").rows
    assert (row.response, dict(row.labels)) == (None, {"request": U})


def test_a_pool_takes_rows_whether_or_not_anybody_labeled_them(tmp_path: Path) -> None:
    path = written(
        tmp_path, {"text": "a"}, {"text": "b", "label": None}, {"text": "c", "label": "spam"}, {"text": "d", "label": 1}
    )
    report = report_of(path, "pool")
    assert (report.rows, report.refused, report.labels, report.unlabeled) == (4, [], {"request": {H: 1}}, 3)
    assert report.unknown_labels == {"request": {"spam": 1}}


def test_the_pool_drops_a_label_of_a_response_that_is_missing(tmp_path: Path) -> None:
    path = written(tmp_path, {"p": "a", "q": "safe", "r": "unsafe"})
    mapping = {"prompt": "p", "request_label": "q", "response_label": "r"}
    (row,) = read_file(path, split="pool", map=mapping).rows
    assert dict(row.labels) == {"request": U}
    assert read_file(path, split="seed", map=mapping).refused == [Refused(1, "a response label without a response")]


@pytest.mark.parametrize(("unknown", "fails"), [(1, False), (2, True)])
def test_unknown_words_on_two_percent_of_the_rows_refuse_a_file_that_measures(
    tmp_path: Path, unknown: int, fails: bool
) -> None:
    path = labeled(tmp_path, *["safe", "unsafe"] * 49, *["spam"] * unknown, *["safe"] * (2 - unknown))
    got = read_file(path, split="test")
    assert len(got.refused) == unknown
    assert (got.fault is not None) == fails
    assert read_file(path, split="pool").fault is None


def test_a_rare_word_that_is_the_only_one_of_its_class_refuses_too(tmp_path: Path) -> None:
    path = labeled(tmp_path, *["benign"] * 199, "malicious")
    said = refusal(path)
    assert "1 of its 200 rows have a request label that is not known: 'malicious' (1); say what each means" in said
    assert '--label malicious=harmful (or =unharmful, or =none for no label; in a recipe label = {"malicious"' in said
    assert labels_of(path, label={"malicious": "harmful"})[-2:] == [U, H]
    assert labels_of(path, label={"Malicious": "none"}) == [U] * 199


def test_a_part_of_a_file_is_judged_by_its_own_rows(tmp_path: Path) -> None:
    path = labeled(tmp_path, *["safe", "unsafe"] * 100, *["spam"] * 4)
    assert read_file(path, split="test").fault is None
    assert read_file(path, split="test", part=(0.0, 0.5)).fault is None
    assert read_file(path, split="test", max_chars=5).fault is None


def test_all_words_are_listed_with_how_often_they_occur(tmp_path: Path) -> None:
    said = refusal(labeled(tmp_path, "Safe", "Unsafe", "Controversial", "Controversial", "it's odd"), "dev")
    assert "3 of its 5 rows" in said
    assert "'Controversial' (2), \"it's odd\" (1)" in said
    assert "--label Controversial=harmful --label 'it'\"'\"'s odd=harmful'" in said
    many = refusal(labeled(tmp_path, *(f"word {at}" for at in range(3000))))
    assert "3,000 of its 3,000 rows" in many
    assert "and 991 more" in many


def test_a_long_word_is_mapped_by_all_of_it(tmp_path: Path) -> None:
    long = "it breaks the policy, by the word of the second of three annotators"
    path = labeled(tmp_path, long, "safe")
    said = refusal(path)
    assert f"'{long[:40]}' (1)" in said
    assert f"--label '{long}=harmful'" in said
    assert labels_of(path, label={long: "harmful"}) == [H, U]


def test_a_word_of_another_task_says_so(tmp_path: Path) -> None:
    (first,) = read_file(labeled(tmp_path, "refusal"), split="seed").refused
    assert first.reason.endswith("; for a label of the completion, add --task completion")


@pytest.mark.parametrize("words", [{"0": "harmful", "1": "unharmful"}, {"false": "harmful", "True": "unharmful"}])
def test_the_user_says_what_numbers_mean(tmp_path: Path, words: dict[str, str]) -> None:
    assert labels_of(labeled(tmp_path, 0, 1, "0", "1.0", True), label=words) == [H, U, H, U, U]


def test_a_word_that_no_row_has_is_told(tmp_path: Path) -> None:
    words = {"bad": "harmful", "worse": "harmful"}
    assert report_of(labeled(tmp_path, "safe", "bad"), "seed", label=words).unused_labels == ["worse"]


def test_yes_and_no_are_asked_about(tmp_path: Path) -> None:
    path = labeled(tmp_path, "yes", "no", "Yes")
    assert "--label yes=LABEL --label no=LABEL --label Yes=LABEL (LABEL is harmful, unharmful, or none" in refusal(path)
    assert note_of(path) == ""
    assert labels_of(path, label={"yes": "harmful", "no": "unharmful"}) == [H, U, H]


def test_known_formats_take_the_users_words(tmp_path: Path) -> None:
    row = {"prompt": "p", "response": "r", "prompt_label": "needs caution", "response_label": "safe"}
    got = read_file(written(tmp_path, row), split="seed", label={"needs caution": "harmful"})
    assert (got.format, dict(got.rows[0].labels)) == ("aegis 2", {"request": H, "response": U})
    assert dict(read_file(written(tmp_path, row), split="pool").rows[0].labels) == {"response": U}


@pytest.mark.parametrize(
    ("column", "truths", "labels"),
    [
        ("is_safe", (True, False), [U, H]),
        ("isSafe", ("true", "false"), [U, H]),
        ("SAFE", (1, 0), [U, H]),
        ("harmless", ("yes", "no"), [U, H]),
        ("is_benign", (1.0, 0.0), [U, H]),
        ("non_toxic", ("1", "0"), [U, H]),
        ("is_unsafe", (True, False), [H, U]),
        ("flagged", ("Yes", "No"), [H, U]),
        ("is_toxic", ("1.0", "0.0"), [H, U]),
        ("is_harmful", (True, False), [H, U]),
        ("verdict", (True, False), [H, U]),
        ("is_safe", ("safe", "unsafe"), [U, H]),
        ("not is_safe", (True, False), [U, H]),
        ("not verdict", (True, False), [U, H]),
        ("not verdict", ("safe", "unsafe"), [H, U]),
    ],
)
def test_true_means_what_the_columns_name_says(
    tmp_path: Path, column: str, truths: tuple[Any, Any], labels: list[str]
) -> None:
    path = labeled(tmp_path, *truths, column=column.removeprefix("not "))
    assert labels_of(path, map={"label": column}) == labels
    assert labels_of(path, map={"prompt": "text", "request_label": column}) == labels


def test_a_columns_truth_is_told_and_an_unclear_one_is_asked_about(tmp_path: Path) -> None:
    path = labeled(tmp_path, True, False, column="is_safe")
    told = "true in is_safe is read as unharmful and false as harmful"
    assert note_of(path, map={"label": "is_safe"}).startswith(told)
    assert "is_safe may be a label: --map is_safe=label" in note_of(path)
    unclear = labeled(tmp_path, True, False, column="safety")
    assert "--label False=LABEL" in refusal(unclear, map={"label": "safety"})


@pytest.mark.parametrize(
    ("value", "label"), [(True, U), ("False", H), ("1.0", U), (0.0, H), ("yes", U), (None, None), ("nan", None)]
)
def test_columns_of_known_sets_take_any_spelling(tmp_path: Path, value: Any, label: str | None) -> None:
    got = read_file(written(tmp_path, {"prompt": "p", "response": "r", "is_safe": value}), split="pool")
    assert (got.format, [row.labels.get("response") for row in got.rows]) == ("beavertails", [label])


def test_a_completions_truth_is_only_known_by_name(tmp_path: Path) -> None:
    path = written(tmp_path, *({"prompt": f"p{at}", "response": "r", "refused": at, "label": at} for at in (1, 0)))
    got = read_file(path, split="seed", map={"completion_label": "refused", "label": "=none"})
    assert [row.labels["completion"] for row in got.rows] == ["refusal", "compliance"]
    assert "2 of its 2 rows have a completion label that is not known" in refusal(path, task="completion")


def test_numbers_without_names_are_told(tmp_path: Path) -> None:
    told = "1 in label is read as harmful and 0 as unharmful (otherwise: --label 1=unharmful --label 0=harmful; "
    assert note_of(labeled(tmp_path, None, 0, 1)) == told + "numbers by the alphabet have harmful as 0)"
    assert note_of(labeled(tmp_path, 0, 1), label={"0": "harmful", "1": "unharmful"}) == ""
    assert note_of(labeled(tmp_path, "safe")) == ""


def test_a_mapping_keeps_what_it_does_not_name(tmp_path: Path) -> None:
    row = {"question": "q", "label": "unsafe", "response": "r", "source": "s", "category": "c", "other": 1}
    got = read_file(written(tmp_path, row), split="seed", map={"prompt": "question"})
    (kept,) = got.rows
    assert (kept.prompt, kept.response, dict(kept.labels)) == ("q", "r", {"request": H})
    assert (kept.source, kept.policy, got.note) == ("s", "c", "ignored columns: other")
    turned = read_file(written(tmp_path, row), split="seed", map={"question": "prompt"}).rows
    assert turned == got.rows
    other = read_file(written(tmp_path, row), split="seed", map={"prompt": "question", "request_label": "=safe"}).rows
    assert dict(other[0].labels) == {"request": U}


def test_a_mapping_leaves_the_prompt_to_its_plain_column_if_that_is_free(tmp_path: Path) -> None:
    path = labeled(tmp_path, "bad", column="verdict")
    assert labels_of(path, map={"label": "verdict"}, label={"bad": "harmful"}) == [H]
    with pytest.raises(ImportRefused, match="the mapping has no column for the prompt"):
        read_file(path, split="pool", map={"response": "text"})


def test_categories_are_groups_where_there_is_no_policy(tmp_path: Path) -> None:
    rows = {"text": "a", "Category": "fraud"}, {"text": "b", "Category": None}, {"text": "c", "Category": "nan"}
    assert [row.policy for row in read_file(written(tmp_path, *rows), split="pool").rows] == ["fraud", None, None]
    both = written(tmp_path, {"text": "a", "category": "fraud", "policy": "money"})
    assert read_file(both, split="pool").rows[0].policy == "money"


@pytest.mark.parametrize("column", ["text", "question"])
def test_an_annotators_answer_turns_or_drops_the_label(tmp_path: Path, column: str) -> None:
    answers = ("accept", "reject", "ignore", "reject")
    rows = [{column: f"t{at}", "label": "harmful", "answer": one} for at, one in enumerate(answers)]
    rows[3]["label"] = "safe"
    path = written(tmp_path, *rows)
    mapping = {"prompt": column} if column == "question" else {}
    assert labels_of(path, "pool", map=mapping) == [H, U, None, H]
    assert read_file(path, split="seed", map=mapping).refused == [Refused(3, "no request label")]
    assert "accept is the label, reject the other one" in note_of(path, map=mapping)


def test_a_column_of_answers_that_nobody_accepted_is_only_a_column(tmp_path: Path) -> None:
    path = labeled(tmp_path, "safe", answer="Water them in the morning.")
    assert (labels_of(path), note_of(path)) == ([U], "ignored columns: answer")


@pytest.mark.parametrize("value", [True, "False", 1, 0.0])
def test_true_and_false_beside_a_completion_are_a_preference(tmp_path: Path, value: Any) -> None:
    path = written(
        tmp_path, *({"prompt": f"p{at}", "completion": "c", "label": one} for at, one in enumerate([None, value]))
    )
    got = read_file(path, split="pool")
    assert [(row.response, dict(row.labels)) for row in got.rows] == [("c", {})] * 2
    assert (got.format, "preference" in got.note) == ("kto", True)
    mapped = read_file(path, split="pool", map={"prompt": "prompt"})
    assert [dict(row.labels) for row in mapped.rows] == [{}, {}]
    words = written(tmp_path, {"prompt": "p", "completion": "c", "label": "unsafe"})
    assert labels_of(words) == [H]


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"goal": "g", "target": "t"}, "request harmful (--map goal=prompt reads it without)"),
        ({"question": "q", "risk_area": "x"}, "request harmful"),
        ({"forbidden_prompt": "f"}, "request harmful (--map forbidden_prompt=prompt"),
        ({"en": "a", "zh": "b", "sw": "c", "jv": "d"}, "request harmful"),
        ({"question": "q", "response": "r", "category": "c", "score": 1}, "request harmful, response unharmful"),
        ({"goal": "g", "prompt": "p", "response": "r", "jailbroken": True}, "request harmful"),
        ({"category": "c", "subcategory": "s", "prompt": "p", "response": ""}, "--format 'coconot contrast'"),
    ],
)
def test_a_label_that_the_layout_implies_is_told_as_an_assumption(
    tmp_path: Path, record: dict[str, Any], told: str
) -> None:
    note = note_of(written(tmp_path, record))
    assert "assumed of every row" in note
    assert told in note


def test_rows_that_teach_a_guard_are_read_as_what_it_judges(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Is it safe?", "input": text, "output": said}
        for text, said in (("a", "safe"), ("b", "unsafe\nS1"))
    ]
    path = written(tmp_path, *rows, name="alpaca_guard.jsonl")
    got = read_file(path, split="seed")
    assert [(row.prompt, row.response, dict(row.labels)) for row in got.rows] == [
        ("a", None, {"request": U}),
        ("b", None, {"request": H}),
    ]
    assert "verdicts" in got.note


def test_hidden_labels_need_no_known_words(tmp_path: Path) -> None:
    path = labeled(tmp_path, "spam", "ham", "spam")
    assert labels_of(path, "seed", hide_labels=True) == [None] * 3


@pytest.mark.parametrize(
    ("name", "split", "settings", "labels"),
    [
        ("01-class-label-parquet/01_class_encoded.parquet", "seed", {}, BOTH),
        ("01-class-label-parquet/01_class_encoded.csv", "seed", {"label": {"0": H, "1": U}}, BOTH),
        ("02-partly-labelled-pool/63_none_labelled.csv", "pool", {}, {}),
        ("02-partly-labelled-pool/63_partly_labelled.jsonl", "pool", {}, {"request": {H: 1, U: 1}}),
        ("03-half-known-label-words/04_llama_guard.jsonl", "test", {}, BOTH),
        ("03-half-known-label-words/05_malicious_benign.csv", "test", {"label": {"malicious": H}}, BOTH),
        ("03-half-known-label-words/05_malicious_benign.csv", "pool", {}, {"request": {U: 5}}),
        ("03-half-known-label-words/05_toxic_nontoxic.csv", "test", {}, BOTH),
        ("08-prodigy-answer-reject/65_prodigy.jsonl", "seed", {}, {"request": {H: 2, U: 5}}),
        ("09-kto-label-is-quality/56_kto.jsonl", "pool", {}, {}),
        ("10-is-safe-polarity/25_is_safe_map.jsonl", "seed", {"map": {"prompt": "question", "label": "is_safe"}}, BOTH),
        ("12-known-columns-other-meaning/57_alpaca_guard.jsonl", "seed", {}, BOTH),
        ("14-float-labels/20_float_label.csv", "dev", {}, BOTH),
        ("21-none-and-nan-strings/58_wildguard_str_none.csv", "dev", {}, BOTH),
    ],
)
def test_the_cases(name: str, split: Any, settings: dict[str, Any], labels: dict[str, dict[str, int]]) -> None:
    got = read_file(case(name), split=split, **settings)
    assert (got.refused, got.fault, label_counts(got)) == ([], None, labels)
    harmful = [row.prompt for row in got.rows if row.labels.get("request") == H]
    assert all(prompt.startswith(("Tell", "How can I forge", "Help", "How do I make a", "Give")) for prompt in harmful)


def test_a_class_that_is_not_known_refuses_the_case() -> None:
    assert "'malicious' (5)" in refusal(case("03-half-known-label-words/05_malicious_benign.csv"), "test")


def test_the_same_bytes_under_another_name_read_the_same() -> None:
    folder = case("11-hub-file-name-injection")
    one, other = (read_file(path, split="pool") for path in sorted(folder.glob("*.parquet")))
    assert [row[:3] for row in one.rows] == [row[:3] for row in other.rows]
    assert (one.format, one.note) == (other.format, other.note)


def test_a_published_set_under_another_name_reads_the_same(tmp_path: Path) -> None:
    published = SHARED_DATA / "wizard101" / "quarantine_deepset_test.csv"
    if not published.exists():
        pytest.skip("wizard101 of the real data is not here")
    other = tmp_path / "train-00000-of-00001.csv"
    other.write_bytes(published.read_bytes())
    got = read_file(other, split="pool")
    with published.open(encoding="utf-8", newline="") as file:
        rows = len(list(csv.DictReader(file)))
    assert (got.format, len(got.rows), label_counts(got)) == ("prompt injections", rows, {})
