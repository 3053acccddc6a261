"""Read a dataset of the Hugging Face hub, or a local folder laid out as one, with `datasets`.

Rows are streamed, and no code of the dataset is run. What columns mean is up to `formats`.
"""

from pathlib import Path

from wizloop.loop.data import class_names
from wizloop.loop.data.records import ImportRefused, NumberedRecords
from wizloop.recipes.sections import Data


def is_remote(data: Data) -> bool:
    """Return whether a source needs the network: a dataset of the hub that is not a local folder."""
    return data.hub_split is not None and not Path(_name_and_config(data.path)[0]).is_dir()


def dataset_name(path: str) -> str:
    """Return the dataset's own name, without its owner and its config."""
    return _name_and_config(path)[0].rstrip("/").rpartition("/")[2]


def read_records(path: str, split: str) -> NumberedRecords:
    """Yield the rows of a split with their numbers, from 1; `path` is NAME or NAME:config.

    Class numbers are replaced by the class names. Raises ImportRefused.
    """
    import datasets
    from datasets.exceptions import DatasetsError

    _silence_libraries()
    name, config = _name_and_config(path)
    try:
        rows = datasets.load_dataset(name, config, split=split, streaming=True)
        named = class_names.of_features(rows.features and rows.features.to_dict())
        for number, row in enumerate(rows, start=1):
            yield number, class_names.applied(row, named)
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        # Python examples are useless in our message.
        reason = " ".join(str(error).partition("Example of usage")[0].split())[:200].rstrip(".")
        raise ImportRefused(
            f"{path}: its split {split!r} cannot be read: {reason}; check name, config (NAME:CONFIG), split and network"
        ) from None


def _silence_libraries() -> None:
    """Stop both libraries from printing a dataset's names and paths unescaped; the error has what matters."""
    from logging import CRITICAL

    import datasets
    import huggingface_hub.utils

    datasets.logging.set_verbosity(CRITICAL)
    huggingface_hub.utils.logging.set_verbosity(CRITICAL)


def _name_and_config(path: str) -> tuple[str, str | None]:
    name, colon, config = path.rpartition(":")
    return (name, config) if colon else (path, None)
