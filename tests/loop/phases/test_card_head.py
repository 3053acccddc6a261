"""The head of a model card is read by huggingface_hub's own classes."""

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from wizloop.loop.phases.card_head import license_of, render
from wizloop.store.evaluations import Evaluation

FIGURES = {"f1": 0.81254, "precision": 0.75, "recall": 0.9, "low": 0.7, "high": 0.9}
MEASURED = [
    Evaluation(1, 1, "dev", "request", 300, 2, json.dumps(FIGURES)),
    Evaluation(1, 1, "a: odd\n--- | `name`", "response", 9, 0, json.dumps(FIGURES | {"f1": 0.5})),
    Evaluation(1, 1, "test", "completion", 1, 0, json.dumps({"f1": None})),
]


def test_the_hub_reads_base_license_tags_and_figures() -> None:
    card = ModelCard(render("demo-r01", "owner/base", "safetensors", "apache-2.0", MEASURED) + "# Card\n")
    found: Any = card.data
    assert (found.base_model, found.license, found.library_name) == ("owner/base", "apache-2.0", "transformers")
    assert (found.pipeline_tag, found.base_model_relation) == ("text-generation", "finetune")
    assert {"wizloop", "guard"} <= set(found.tags)
    assert found.eval_results is not None
    results = {(one.dataset_name, one.metric_name): one.metric_value for one in found.eval_results}
    assert results[("dev", "F1 of request")] == 0.8125
    assert [value for (name, metric), value in results.items() if "odd" in name and metric == "F1 of response"] == [0.5]
    assert len(results) == 6
    assert {metric for name, metric in results if name == "dev"} == {
        f"{figure} of request" for figure in ("F1", "Precision", "Recall")
    }
    assert card.text.strip() == "# Card"


@pytest.mark.parametrize(
    ("format", "library", "relation"),
    [("adapter", "peft", "adapter"), ("mlx-4bit", "mlx", "quantized"), ("gguf", "gguf", "quantized")],
)
def test_a_format_names_its_library_and_what_it_is_to_the_base(format: str, library: str, relation: str) -> None:
    found: Any = ModelCard(render("demo-r01", "owner/base", format, None, [])).data
    assert (found.library_name, found.base_model_relation) == (library, relation)
    assert (found.license, found.eval_results) == (None, None)


@pytest.mark.parametrize("base", ["tiny", "/home/me/base", "./base", "../owner/base"])
def test_a_base_that_is_not_the_hubs_is_not_named(base: str) -> None:
    found: Any = ModelCard(render("demo-r01", base, "safetensors", None, [])).data
    assert found.base_model is None


@pytest.mark.parametrize(
    ("text", "license"),
    [
        ("---\nlicense: apache-2.0\n---\n# Base\n", "apache-2.0"),
        ("---\nlicense: [a]\n---\n", None),
        ("---\nlicense: 'a\\n---\\nb'\n---\n", None),
        ("---\n!!python/object/apply:os.system ['false']\n---\n", None),
        ("# No head\n", None),
    ],
)
def test_the_license_is_the_one_of_the_bases_card(tmp_path: Path, text: str, license: str | None) -> None:
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    assert license_of(tmp_path) == license
    assert license_of(tmp_path / "none") is None
    assert license_of(None) is None
