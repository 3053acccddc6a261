"""The schema version of this code, and refusals of workspaces with another. Imports no SQLAlchemy."""

from pathlib import Path

from wizloop.store import errors

HEAD = "0012"
"""Newest revision in store/migrations. Revisions are consecutive four-digit numbers."""


def refuse_newer(found: str | None, folder: Path) -> None:
    """Raise errors.SchemaTooNew if the workspace is newer than this code."""
    if found is not None and found > HEAD:
        raise errors.SchemaTooNew(
            f"{folder} was written by a newer wizloop (schema {found}, this one has {HEAD}): install that version"
        )


def refuse_other(found: str | None, folder: Path) -> None:
    """Raise errors.SchemaTooNew, errors.SchemaTooOld, or errors.NoWorkspace if the database has no schema."""
    refuse_newer(found, folder)
    if found is None:
        raise errors.NoWorkspace(f"the workspace in {folder} is incomplete: create it with `wizloop start`")
    if found < HEAD:
        raise errors.SchemaTooOld(
            f"{folder} was written by an older wizloop (schema {found}, this one needs {HEAD}): `wizloop upgrade` "
            "upgrades it, `wizloop start` also resumes its run"
        )
