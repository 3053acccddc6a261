"""The base of a run: the files or the hub's revision that it began with, and a refusal of any other."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wizloop.backends import base_identity, model_folder
from wizloop.backends.guard_types import BadArtifact
from wizloop.store import models, steps
from wizloop.store.db import Connection

NAME = "base"
"""The name of its row among the models."""
REVISION = "base_revision"
"""Key of the hub's commit in the record of round 0."""


def revision(db: Connection) -> str | None:
    """Return the hub's commit that the run's base was pinned to, or None."""
    first = steps.get_round(db, 0)
    return None if first is None else first.record.get(REVISION)


def identify(base: str, progress: Callable[[int, int], None]) -> tuple[str, dict[str, Any]]:
    """Return the sha256 and the meta of the base's row; both are empty for a hub's model, which its commit names."""
    folder = model_folder.find(base)
    if model_folder.revision_of(folder) is not None:
        return "", {}
    files = base_identity.taken(folder, progress)
    return base_identity.sha256(files), {"files": files}


def refuse_another(db: Connection, base: str, folder: Path) -> None:
    """Raise BadArtifact if the folder of the base holds another model than the run began with."""
    row = models.by_name(db, NAME)
    files = None if row is None else json.loads(row.meta_json).get("files")
    if not files:
        return
    differing = base_identity.changed(folder, files)
    if differing:
        more = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
        raise BadArtifact(
            f"{base}: is another model than this run began with ({differing[0]}{more} changed): put the files back, or "
            "start a new run in another --workspace"
        )


def named(db: Connection, base: str) -> dict[str, str]:
    """Return how an export names the base: its name without a path, and its revision or sha256 if these are known."""
    row, commit = models.by_name(db, NAME), revision(db)
    said = {"name": Path(base).name if Path(base).expanduser().exists() else model_folder.name_of(base)}
    if commit is not None:
        said["revision"] = commit
    elif row is not None and row.sha256:
        said["sha256"] = row.sha256
    return said
