"""A GGUF file as a model folder: dequantized once into the cache, and checked whenever a process first uses it.

The folder lies beside the hub's models (under HF_HOME), since it is a copy that can be made again, is as large as they
are, and serves every workspace. Its name is the file's digest.
"""

import contextlib
import hashlib
import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from wizloop.backends import artifacts, model_files
from wizloop.backends.gguf import architectures, header, tokenizer, weights
from wizloop.backends.gguf.header import Header
from wizloop.backends.guard_types import BadArtifact

CONVERSION = 1
"""Raised when another folder is made of the same file."""


def cached(file: Path) -> Path:
    """Return the model folder of a GGUF file, made if it is not in the cache. Raises BadArtifact."""
    stat = file.stat()
    return _cached(file.resolve(), _root(), (stat.st_ino, stat.st_size, stat.st_mtime_ns))


def check(file: Path) -> tuple[str, str | None]:
    """Return what a GGUF file holds, and why the cache cannot take its folder, or None; it writes nothing.

    Raises BadArtifact if the file cannot be read.
    """
    found, config = _read(file)
    architectures.names(found)
    tokenizer.check(found)
    named = ", ".join(kind.name for kind in weights.formats(found))
    described = f"a GGUF file of a {config['model_type']} with {config['num_hidden_layers']} layers, in {named}"
    return described, _no_room(file, weights.size(found))


def _no_room(file: Path, size: int) -> str | None:
    """Return why a folder of `size` bytes cannot be added to the cache, or None if it is there or there is room."""
    root = _root()
    there = next(each for each in (root, *root.parents) if each.exists())
    free = shutil.disk_usage(there).free
    if free > size or (root / _name(_sha256(file))).is_dir():
        return None
    return f"its folder takes {size / 1e9:.1f} GB and {there} has {free / 1e9:.1f} GB free; make room, or set HF_HOME"


def convert(file: Path, to: Path) -> None:
    """Write a GGUF file's weights, configuration and tokenizer into an existing empty folder. Raises BadArtifact."""
    found, config = _read(file)
    tokenizer.build(found).save_pretrained(to)
    weights.write(found, config, to)
    (to / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def _read(file: Path) -> tuple[Header, dict[str, Any]]:
    """Return the file's header and the model's config.json. Raises BadArtifact."""
    found = header.read(file)
    config = architectures.config(found)
    weights.formats(found)
    factors = found.tensors.get(architectures.ROPE_FACTORS)
    scaling = architectures.scaling(found, config, None if factors is None else weights.values(found, factors))
    ids = {f"{name}_id": token for name, token in tokenizer.special_ids(found).items()}
    ends = tokenizer.ends(found)
    config |= ids | {"eos_token_id": ends[0] if len(ends) == 1 else ends}
    config |= {"rope_scaling": scaling, "dtype": weights.number_format(found)}
    if why := next(model_files.number_faults(config), None):
        raise found.refusal(f"{why}; download it again")
    return found, config


@cache
def _cached(file: Path, root: Path, identity: tuple[int, ...]) -> Path:
    """Return the folder; a file of another identity is read anew."""
    digest = _sha256(file)
    folder = root / _name(digest)
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f"{folder.name}.lock"):
        if not _whole(folder):
            _make(file, digest, folder)
    return folder


def _whole(folder: Path) -> bool:
    """Return whether the cache holds the folder undamaged."""
    if folder.is_dir():
        with contextlib.suppress(BadArtifact):
            artifacts.verify(folder)
            return True
    return False


def _make(file: Path, digest: str, folder: Path) -> None:
    """Convert the file into `folder`, after what an ended process or a damaged disk left of it."""
    for old in (folder, *folder.parent.glob(f"tmp-{folder.name}-*")):
        shutil.rmtree(old, ignore_errors=True)
    with artifacts.writing(folder, {"gguf": file.name, "gguf_sha256": digest}) as to:
        convert(file, to)


def _name(digest: str) -> str:
    return f"{digest[:48]}-{CONVERSION}"


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _root() -> Path:
    from huggingface_hub.constants import HF_HOME

    return Path(HF_HOME) / "wizloop-gguf"
