"""Model folders that are either whole or missing.

A folder is written next to its final path, its files are hashed into manifest.json, everything is flushed, and one
rename makes it exist. safetensors has no checksum, so the manifest is what detects a flipped bit when a folder is
loaded.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wizloop.backends.guard_types import BadArtifact

MANIFEST = "manifest.json"
# Files that a model folder may hold: no pickle, no code.
ALLOWED_SUFFIXES = frozenset({".safetensors", ".json", ".txt", ".jinja", ".md"})
_NAME = re.compile(r"^[a-z0-9][a-z0-9._-]{0,63}\Z")


@contextmanager
def writing(final: Path, about: dict[str, Any], also: Collection[str] = ()) -> Iterator[Path]:
    """Yield a temporary folder that becomes `final` if the block succeeds and is removed if it fails.

    `about` goes into the manifest; `also` are suffixes and names allowed besides ALLOWED_SUFFIXES. Raises ValueError
    for a name that could escape the parent folder, FileExistsError if `final` exists.
    """
    if not _NAME.match(final.name) or ".." in final.parts:
        raise ValueError(
            f"{final.name!r} cannot name a model folder: use lower-case letters, digits, dot, dash and underscore"
        )
    if final.exists():
        raise FileExistsError(f"{final} already exists")
    final.parent.mkdir(parents=True, exist_ok=True)
    folder = final.parent / f"tmp-{final.name}-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
        _write_manifest(folder, about, also)
        for path in (*folder.iterdir(), folder):
            _flush(path)
        folder.rename(final)
        _flush(final.parent)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def verify(folder: Path, also: Collection[str] = ()) -> str:
    """Check every file against the folder's manifest and return the manifest's sha256. Raises BadArtifact.

    `also` are suffixes and names allowed besides ALLOWED_SUFFIXES.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise BadArtifact(f"{folder}: {MANIFEST} is missing, so the model is incomplete: remove it and start again")
    try:
        text = manifest.read_text(encoding="utf-8")
        files: dict[str, dict[str, Any]] = json.loads(text)["files"]
    except (ValueError, KeyError) as error:
        raise BadArtifact(f"{manifest}: cannot be read ({error}); remove the folder and start again") from error
    present = {path.name for path in folder.iterdir()} - {MANIFEST}
    if present != set(files):
        raise BadArtifact(
            f"{folder}: holds {sorted(present)}, its manifest names {sorted(files)}; remove the folder and start again"
        )
    for name, expected in files.items():
        _check_file(folder / name, expected, also)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def about(folder: Path) -> dict[str, Any]:
    """Return the `about` that the folder was written with."""
    result: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["about"]
    return result


def sweep(parent: Path) -> None:
    """Remove the temporary folders that a killed process left in `parent`."""
    if parent.is_dir():
        for folder in parent.glob("tmp-*"):
            shutil.rmtree(folder, ignore_errors=True)


def _check_file(path: Path, expected: dict[str, Any], also: Collection[str]) -> None:
    if not _allowed(path, also):
        allowed = ", ".join(sorted(ALLOWED_SUFFIXES))
        raise BadArtifact(f"{path}: a model folder holds plain {allowed} files and nothing else")
    if path.stat().st_size != expected["bytes"] or sha256_of(path) != expected["sha256"]:
        raise BadArtifact(
            f"{path}: differs from its manifest (damaged or changed); remove the folder and start again, or restore it"
        )


def _write_manifest(folder: Path, about: dict[str, Any], also: Collection[str]) -> None:
    paths = [path for path in folder.iterdir() if path.name != MANIFEST]
    bad = [path.name for path in paths if not _allowed(path, also)]
    if bad:
        raise BadArtifact(f"{folder}: {sorted(bad)} may not be part of a model folder")
    files = {path.name: {"sha256": sha256_of(path), "bytes": path.stat().st_size} for path in sorted(paths)}
    text = json.dumps({"files": files, "about": about}, indent=2, sort_keys=True)
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def _allowed(path: Path, also: Collection[str]) -> bool:
    return (
        path.is_file() and not path.is_symlink() and not {path.suffix, path.name}.isdisjoint({*ALLOWED_SUFFIXES, *also})
    )


def sha256_of(path: Path) -> str:
    """Return the sha256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Flush a file or a directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
