"""Find a model's folder and refuse unsafe ones before anything is loaded. It imports no model library."""

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from wizloop import regular_file
from wizloop.backends import model_files
from wizloop.backends.guard_types import BadArtifact, ModelMissing

ADAPTER_CONFIG = "adapter_config.json"
MLX_ADAPTER, PEFT_ADAPTER = "adapters.safetensors", "adapter_model.safetensors"
"""The weights' file in mlx-lm's layout of an adapter, and in PEFT's."""

NO_MAGNITUDE = (
    'the base has outputs whose weights are all zero, and DoRA divides by their magnitude: set train.method to "lora"'
)

NOT_WHOLE = (
    "the base is quantized or a mixture of experts, and all weights of such a base are not trained: "
    'set train.method to "lora", or take a dense base'
)


def of_other_library(name: str, backend: str) -> str:
    """Say that changed weights (train.method "full") were written by the other library, which counts some otherwise."""
    return f'holds weights that {name} trained, and only {name} reads them: set guard.backend to "{backend}"'


_COMMIT = re.compile(r"[0-9a-f]{40}")
_FETCHED = ["*.json", "model*.safetensors", "tokenizer.model", "*.tiktoken", "*.txt", "*.jinja"]


def find(base: str) -> Path:
    """Return the folder of the model `base`: itself, its copy in the cache for a GGUF file, or the hub's in the cache.

    owner/name@revision is one commit or tag of the hub's. Raises ModelMissing, and BadArtifact for a model that brings
    code.
    """
    folder = _folder(base)
    model_files.refuse(folder)
    return folder


def on_disk(base: str) -> Path | None:
    """Return the folder of the model `base` if its configuration is on this disk, or None. Downloads nothing."""
    folder = Path(base).expanduser()
    if folder.is_dir():
        return folder
    if not _is_hub_name(base):
        return None
    from huggingface_hub import try_to_load_from_cache

    name, _, revision = base.partition("@")
    cached = try_to_load_from_cache(name, "config.json", revision=revision or None)
    return Path(cached).parent if isinstance(cached, str) else None


def revision_of(folder: Path) -> str | None:
    """Return the commit of a folder that `find` took from the hub's cache; None for any other folder."""
    return folder.name if folder.parent.name == "snapshots" and _COMMIT.fullmatch(folder.name) else None


def name_of(base: str) -> str:
    """Return a hub's name without its revision."""
    return base.partition("@")[0]


def config_of(folder: Path) -> dict[str, Any]:
    """Return the folder's config.json. Raises BadArtifact if it is no JSON object."""
    path = folder / "config.json"
    try:
        config = json.loads(regular_file.read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise BadArtifact(f"{path}: is not JSON ({error})") from error
    except OSError as error:
        raise BadArtifact(f"{path}: {error.strerror}") from error
    if not isinstance(config, dict):
        raise BadArtifact(f"{path}: holds a {type(config).__name__} instead of an object with settings")
    return config


def is_for_mlx(base: str) -> bool:
    """Return whether `base` is a folder of weights in MLX's own quantized format."""
    folder = Path(base).expanduser()
    return (folder / "config.json").is_file() and "quantization" in config_of(folder)


def _folder(base: str) -> Path:
    path = Path(base).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelMissing(f"{base}: the folder holds no config.json, so it is not a model; check guard.base")
        return path
    if path.is_file():
        return _of_file(path)
    if not _is_hub_name(base):
        raise ModelMissing(
            f"{base}: no such folder or file; "
            'guard.base is a model folder, a GGUF file, a hub name (owner/name) or "tiny"'
        )
    return _fetch(base)


def file_check(path: Path) -> tuple[str, str | None]:
    """Return what a file holds and why its folder cannot be made here, or None. Raises ModelMissing, BadArtifact."""
    _refuse_other(path)
    from wizloop.backends.gguf import folder

    return folder.check(path)


def file_tokenizer(path: Path) -> Any:
    """Return the tokenizer in a file, without making its folder. Raises ModelMissing, BadArtifact."""
    file_check(path)
    from wizloop.backends.gguf import header, tokenizer

    return tokenizer.build(header.read(path))


def _of_file(path: Path) -> Path:
    _refuse_other(path)
    from wizloop.backends.gguf import folder

    return folder.cached(path)


def _refuse_other(path: Path) -> None:
    if path.suffix.lower() != ".gguf":
        raise ModelMissing(f"{path}: is a file, and of files only GGUF is read (.gguf); give the model's folder")


def _is_hub_name(base: str) -> bool:
    return base.count("/") == 1 and not base.startswith((".", "/", "~"))


def _fetch(base: str) -> Path:
    """Download a hub's model into the local cache: weights, tokenizer, and configuration, but no code."""
    from httpx2 import HTTPError
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    name, _, revision = base.partition("@")
    wanted: dict[str, Any] = {"revision": revision or None, "allow_patterns": _FETCHED}
    if _COMMIT.fullmatch(revision):
        # A commit never changes: what is here is not asked for again.
        with suppress(OSError, ValueError):
            return Path(snapshot_download(name, **wanted, local_files_only=True))
    try:
        return Path(snapshot_download(name, **wanted))
    except (OSError, ValueError, HTTPError, HfHubHTTPError) as error:
        kind = type(error).__name__
        raise ModelMissing(
            f"{base}: is not on this disk and could not be fetched ({kind}); check the name and the network"
        ) from error
