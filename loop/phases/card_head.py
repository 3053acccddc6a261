"""The YAML head of a model card, by which the Hugging Face hub lists a model: its base, tags and measured figures.

A license is named only where the base's own card names one.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wizloop.store.evaluations import Evaluation

_LIBRARIES: Mapping[str, str] = {
    "adapter": "peft",
    "adapter-mlx": "mlx",
    "safetensors": "transformers",
    "nf4": "transformers",
    "mlx-4bit": "mlx",
    "mlx-8bit": "mlx",
    "gguf": "gguf",
    "gguf-q8": "gguf",
}
_RELATIONS: Mapping[str, str] = {
    **dict.fromkeys(("adapter", "adapter-mlx"), "adapter"),
    **dict.fromkeys(("nf4", "mlx-4bit", "mlx-8bit", "gguf", "gguf-q8"), "quantized"),
}
_HEAD = 1 << 16
"""Characters of a card that are read for its head."""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")


def render(name: str, base: str, format: str, license: str | None, measured: Sequence[Evaluation]) -> str:
    """Return the head with its fences. `base` is named only if it is a hub name: a path is private."""
    # Late import: a night that exports nothing needs no hub.
    from huggingface_hub import ModelCardData

    hub_name = base if is_hub_name(base) else None
    fields: dict[str, Any] = {
        "base_model": hub_name,
        "base_model_relation": None if hub_name is None else _RELATIONS.get(format, "finetune"),
        "license": license,
        "library_name": _LIBRARIES.get(format),
        "pipeline_tag": "text-generation",
        "tags": ["wizloop", "safety", "guard", "moderation"],
    }
    known = {key: value for key, value in fields.items() if value is not None}
    results = [one for row in measured for one in _results(row)]
    data = ModelCardData(model_name=name, eval_results=results or None, **known)
    return f"---\n{data.to_yaml()}\n---\n"


def is_hub_name(base: str) -> bool:
    """Return whether a base is named as on the hub, and is no folder or file here."""
    return _NAME.fullmatch(base) is not None and not Path(base).exists()


def _results(row: Evaluation) -> list[Any]:
    """Return one evaluation as results of the hub's model index: fractions of 1, four digits."""
    from huggingface_hub import EvalResult

    names = {"f1": "F1", "precision": "Precision", "recall": "Recall"}
    return [
        EvalResult(
            task_type="text-classification",
            task_name=f"{row.task} ({row.n} samples)",
            dataset_type=re.sub(r"[^\w.-]+", "-", row.benchmark) or "unnamed",
            dataset_name="".join(c if c.isprintable() else " " for c in row.benchmark),
            metric_type=metric,
            metric_name=f"{word} of {row.task}",
            metric_value=round(row.metrics[metric], 4),
        )
        for metric, word in names.items()
        if row.metrics.get(metric) is not None
    ]


def license_of(folder: Path | None) -> str | None:
    """Return the license that the card of a base's folder names, or None. The card is untrusted."""
    from huggingface_hub import ModelCard
    from yaml import YAMLError  # type: ignore[import-untyped]

    if folder is None or not (folder / "README.md").is_file():
        return None
    try:
        with (folder / "README.md").open(encoding="utf-8") as file:
            card: Any = ModelCard(file.read(_HEAD), ignore_metadata_errors=True)
        found = card.data.license
    except (OSError, ValueError, TypeError, RecursionError, YAMLError):
        return None
    return found if isinstance(found, str) and _LICENSE.fullmatch(found) else None
