"""The rows of a dataset of the Hugging Face hub, or of a local folder laid out as one, read through `datasets`.

Rows come one at a time and no code of the dataset is run. What columns mean is the matter of `formats`.
"""

from pathlib import Path
from typing import Any

from wizloop.loop.data.containers import BadRow, ImportRefused, Numbered
from wizloop.recipes.sections import Data


def is_far(data: Data) -> bool:
    """Whether a source lies behind a network: a dataset of the hub, and no local folder."""
    return data.hub_split is not None and not Path(_parts(data.path)[0]).is_dir()


def name(asked: str) -> str:
    """The dataset's own name, without its owner and its config."""
    return _parts(asked)[0].rstrip("/").rpartition("/")[2]


def records(asked: str, split: str) -> Numbered:
    """The rows of the split with their numbers, from 1; `asked` is NAME or NAME:config.

    A column of class numbers comes as the classes' names. Raises ImportRefused.
    """
    import datasets
    from datasets.exceptions import DatasetsError

    _quiet()
    dataset, config = _parts(asked)
    try:
        rows = datasets.load_dataset(dataset, config, split=split, streaming=True)
        named = _class_names(rows.features)
        for number, row in enumerate(rows, start=1):
            yield number, _named(row, named)
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        # What a person would write in Python is of no use here.
        told = " ".join(str(error).partition("Example of usage")[0].split())[:200].rstrip(".")
        raise ImportRefused(
            f"{asked}: its split {split!r} cannot be read: {told}; check name, config (NAME:CONFIG) and split, and the "
            "network"
        ) from None


def _quiet() -> None:
    """Both libraries write names and paths of the dataset to the terminal as they are; what matters is in the error."""
    from logging import CRITICAL

    import datasets
    import huggingface_hub.utils

    datasets.logging.set_verbosity(CRITICAL)
    huggingface_hub.utils.logging.set_verbosity(CRITICAL)


def _parts(asked: str) -> tuple[str, str | None]:
    dataset, colon, config = asked.rpartition(":")
    return (dataset, config) if colon else (asked, None)


def _class_names(features: Any) -> dict[str, list[str]]:
    known = {} if features is None else dict(features)
    return {column: list(kind.names) for column, kind in known.items() if hasattr(kind, "names")}


def _named(row: dict[str, Any], classes: dict[str, list[str]]) -> dict[str, Any] | BadRow:
    """The row with names for class numbers; -1, which stands for no class, is no label."""
    found = dict(row)
    for column, names in classes.items():
        value = found.get(column)
        if value is not None and not -1 <= value < len(names):
            return BadRow(f"the column {column!r} holds the class {value}, of {len(names)}")
        found[column] = None if value in (None, -1) else names[value]
    return found
