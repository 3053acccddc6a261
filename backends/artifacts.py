"""Model folders that are either whole or missing.

A folder is written next to its final path, its files are hashed into manifest.json, everything is flushed, and one
rename makes it exist. safetensors has no checksum, so the manifest is what detects a flipped bit when a folder is
loaded.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wizloop import regular_file
from wizloop.backends.guard_types import BadArtifact

MANIFEST = "manifest.json"
_PROBE_BYTES = 1 << 20
"""A file system with less than this left is full."""
# Files that a model folder may hold: no pickle, no code.
ALLOWED_SUFFIXES = frozenset({".safetensors", ".json", ".txt", ".jinja", ".md"})
AGAIN = "put its files back from a copy, or let `wizloop repair` make it again if it is a model of a run"
"""What to do about a damaged folder."""
_FULL = re.compile(r"no space left|StorageFull|quota exceeded|os error (28|122)\b", re.IGNORECASE)
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
        with telling_full(folder):
            yield folder
            _write_manifest(folder, about, also)
            for path in (*folder.iterdir(), folder):
                _flush(path)
        folder.rename(final)
        _flush(final.parent)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def telling_full(folder: Path) -> Iterator[None]:
    """Turn what a library raises where the disk of `folder` is full into an OSError with ENOSPC."""
    try:
        yield
    except Exception as error:
        if _is_of_library(error) and (_FULL.search(str(error)) or _takes_no_more(folder)):
            raise OSError(errno.ENOSPC, "the disk is full", str(folder)) from error
        raise


def _is_of_library(error: Exception) -> bool:
    return not type(error).__module__.startswith("wizloop.")


def _takes_no_more(folder: Path) -> bool:
    """Return whether the file system is full, or a quota is used up, while what was written still lies there.

    Every library says it in words of its own, or without the reason: MLX and torch with a RuntimeError, tokenizers with
    a bare Exception, NumPy with an OSError without a number.
    """
    try:
        with (folder / "probe").open("wb", buffering=0) as file:
            return file.write(b"\1" * _PROBE_BYTES) < _PROBE_BYTES
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)


def verify(folder: Path, also: Collection[str] = ()) -> str:
    """Check every file against the folder's manifest and return the manifest's sha256. Raises BadArtifact.

    `also` are suffixes and names allowed besides ALLOWED_SUFFIXES.
    """
    text, files = _listed(folder)
    present = {path.name for path in folder.iterdir()} - {MANIFEST}
    if present != set(files):
        raise BadArtifact(f"{folder}: holds {sorted(present)}, its manifest names {sorted(files)}; {AGAIN}")
    for name, expected in files.items():
        if not _allowed(folder / name, also):
            allowed = ", ".join(sorted(ALLOWED_SUFFIXES))
            raise BadArtifact(f"{folder / name}: a model folder holds plain {allowed} files and nothing else")
        _check_content(folder / name, expected)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def verify_listed(*folders: Path | None) -> None:
    """Check what the manifests of the folders list, in those that have one, before a library reads them.

    A copy of the hub's may lack the card, and holds links. Raises BadArtifact.
    """
    for folder in folders:
        if folder is not None and (folder / MANIFEST).exists():
            for name, expected in _listed(folder)[1].items():
                if (folder / name).exists() or not name.endswith(".md"):
                    _check_content(folder / name, expected)


def is_whole(folder: Path) -> bool:
    """Return whether a folder has a manifest and all that it lists, undamaged."""
    try:
        for name, expected in _listed(folder)[1].items():
            _check_content(folder / name, expected)
    except BadArtifact:
        return False
    return True


def remove(folder: Path) -> None:
    """Remove a damaged folder, or what stands in its place."""
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink(missing_ok=True)
    else:
        shutil.rmtree(folder)


def _listed(folder: Path) -> tuple[str, dict[str, dict[str, Any]]]:
    """Return the text of a folder's manifest, and the files that it lists. Raises BadArtifact."""
    manifest = folder / MANIFEST
    try:
        text = regular_file.read_text(manifest)
        files: dict[str, dict[str, Any]] = json.loads(text)["files"]
        if not all(isinstance(each["bytes"], int) and isinstance(each["sha256"], str) for each in files.values()):
            raise ValueError("a size or a sha256 is missing")
    except FileNotFoundError:
        raise BadArtifact(f"{folder}: {MANIFEST} is missing, so the model is incomplete; {AGAIN}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadArtifact(f"{manifest}: cannot be read ({error}); {AGAIN}") from error
    return text, files


def about(folder: Path) -> dict[str, Any]:
    """Return the `about` that the folder was written with."""
    result: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["about"]
    return result


def sweep(parent: Path) -> None:
    """Remove the temporary folders that a killed process left in `parent`."""
    if parent.is_dir():
        for folder in parent.glob("tmp-*"):
            shutil.rmtree(folder, ignore_errors=True)


def _check_content(path: Path, expected: dict[str, Any]) -> None:
    try:
        same = path.stat().st_size == expected["bytes"] and sha256_of(path) == expected["sha256"]
    except OSError as error:
        raise BadArtifact(f"{path}: {error.strerror}; {AGAIN}") from error
    if not same:
        raise BadArtifact(f"{path}: differs from its manifest (damaged or changed); {AGAIN}")


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
    """Return the sha256 (hex) of a regular file. Raises OSError."""
    with regular_file.opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Flush a file or a directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
