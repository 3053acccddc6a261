"""Model folders that are either whole or not there.

A folder is written beside its final place, its files are hashed into manifest.json, everything is flushed, and one
rename makes it exist. safetensors has no checksum, so the manifest is what finds a flipped bit when the folder is
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
# What a model folder may hold: no pickle, no code.
ALLOWED_SUFFIXES = frozenset({".safetensors", ".json", ".txt", ".jinja", ".md"})
_NAME = re.compile(r"^[a-z0-9][a-z0-9._-]{0,63}\Z")


@contextmanager
def writing(final: Path, about: dict[str, Any], also: Collection[str] = ()) -> Iterator[Path]:
    """A temporary folder that becomes `final` when the block ends well, and is removed when it does not.

    `about` goes into the manifest; `also` are suffixes that its files may have besides ALLOWED_SUFFIXES. Raises
    ValueError for a name that could leave the parent folder, FileExistsError when `final` is there already.
    """
    if not _NAME.match(final.name) or ".." in final.parts:
        raise ValueError(
            f"{final.name!r} cannot name a model folder: use lower-case letters, digits, dot, dash and underscore"
        )
    if final.exists():
        raise FileExistsError(f"{final} is there already")
    final.parent.mkdir(parents=True, exist_ok=True)
    folder = final.parent / f"tmp-{final.name}-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
        _write_manifest(folder, about, also)
        _flush(folder)
        folder.rename(final)
        _flush_directory(final.parent)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def verify(folder: Path, also: Collection[str] = ()) -> str:
    """sha256 of the folder's manifest, after every file was found to match it. Raises BadArtifact.

    `also` are suffixes that its files may have besides ALLOWED_SUFFIXES.
    """
    manifest_path = folder / MANIFEST
    if not manifest_path.is_file():
        raise BadArtifact(
            f"{folder}: {MANIFEST} is missing; the folder is not a whole model: remove it and start again"
        )
    try:
        text = manifest_path.read_text(encoding="utf-8")
        files: dict[str, dict[str, Any]] = json.loads(text)["files"]
    except (ValueError, KeyError) as error:
        raise BadArtifact(f"{manifest_path}: cannot be read ({error}); remove the folder and start again") from error
    present = {path.name for path in folder.iterdir()} - {MANIFEST}
    if present != set(files):
        raise BadArtifact(
            f"{folder}: holds {sorted(present)}, its manifest names {sorted(files)}; remove the folder and start again"
        )
    for name, expected in files.items():
        _check_file(folder / name, expected, also)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def about(folder: Path) -> dict[str, Any]:
    """What the writer said of the folder."""
    result: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["about"]
    return result


def name_base(base: str, to: Path) -> None:
    """Write base.json into an exported adapter: the name of its base, which is a folder or a hub name.

    A base in a folder is named by the folder alone, and told from others by its manifest: where it lies is nobody's
    business who gets the adapter.
    """
    folder = Path(base)
    known = {"base": folder.name if folder.is_dir() else base}
    if (folder / MANIFEST).is_file():
        known["manifest_sha256"] = verify(folder)
    (to / "base.json").write_text(json.dumps(known), encoding="utf-8")


def sweep(parent: Path) -> None:
    """Remove the temporary folders that a killed process left in `parent`."""
    if parent.is_dir():
        for folder in parent.glob("tmp-*"):
            shutil.rmtree(folder, ignore_errors=True)


def _check_file(path: Path, expected: dict[str, Any], also: Collection[str]) -> None:
    if path.is_symlink() or not path.is_file() or path.suffix not in {*ALLOWED_SUFFIXES, *also}:
        raise BadArtifact(
            f"{path}: a model folder holds plain {', '.join(sorted(ALLOWED_SUFFIXES))} files and nothing else"
        )
    if path.stat().st_size != expected["bytes"] or _sha256(path) != expected["sha256"]:
        raise BadArtifact(
            f"{path}: differs from its manifest (damaged or changed); remove the folder and start again, or restore it"
        )


def _write_manifest(folder: Path, about: dict[str, Any], also: Collection[str]) -> None:
    found = [path for path in folder.iterdir() if path.name != MANIFEST]
    bad = [path.name for path in found if not path.is_file() or path.suffix not in {*ALLOWED_SUFFIXES, *also}]
    if bad:
        raise BadArtifact(f"{folder}: {sorted(bad)} may not be part of a model folder")
    files = {path.name: {"sha256": _sha256(path), "bytes": path.stat().st_size} for path in sorted(found)}
    (folder / MANIFEST).write_text(
        json.dumps({"files": files, "about": about}, indent=2, sort_keys=True), encoding="utf-8"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    _flush_directory(folder)


def _flush_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
