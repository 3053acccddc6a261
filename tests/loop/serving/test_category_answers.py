"""Categories in OpenAI's shape, in rows of `classify` and in its table."""

import csv
import io
from typing import Any

from wizloop.loop.api import Verdict
from wizloop.loop.commands import classify_files
from wizloop.loop.serving import moderation

ABOUT = {"name": "a guard", "sha256": "ab", "calibration": "cd"}


def verdict(**more: Any) -> Verdict:
    return Verdict({"request": "harmful"}, {"request": 0.9}, 0.8, "confident_block", None, 0, **more)


def test_the_answer_has_each_category_with_its_probability_beside_harmful() -> None:
    one = verdict(categories=("hate",), category_probability={"hate": 0.7, "violence": 0.1})
    [result] = moderation.answer("modr-1", ABOUT, [one])["results"]
    assert result["categories"] == {"hate": True, "violence": False, "harmful": True}
    assert result["category_scores"] == {"hate": 0.7, "violence": 0.1, "harmful": 0.9}
    assert set(result["category_applied_input_types"]) == {"hate", "violence", "harmful"}


def test_a_guard_without_categories_has_the_one_that_it_had() -> None:
    [result] = moderation.answer("modr-1", ABOUT, [verdict()])["results"]
    assert result["categories"] == {"harmful": True}


def test_a_table_has_a_column_of_categories_where_a_guard_names_them() -> None:
    row = {"verdict": {}, "probability": {}, "label": {}, "row": "a:1", "categories": ("hate", "=cmd")}
    named, plain = io.StringIO(), io.StringIO()
    classify_files.csv_writer(named, texts=False, named=True)(row)
    classify_files.csv_writer(plain, texts=False)({**row, "categories": None})
    assert next(csv.DictReader(io.StringIO(named.getvalue())))["categories"] == "hate, =cmd"
    assert "categories" not in plain.getvalue()
