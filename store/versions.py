"""Which schema this code knows, and what is said of a workspace that has another."""

from pathlib import Path

from wizloop.store import errors

HEAD = "0007"
"""The newest revision in store/migrations. Revisions are numbers of four digits, one after the other."""


def refuse_newer(found: str | None, folder: Path) -> None:
    """Raises errors.SchemaTooNew when the workspace is ahead of this code."""
    if found is not None and found > HEAD:
        raise errors.SchemaTooNew(
            f"{folder} was written by a newer wizloop (schema {found}, this one knows {HEAD}): install that version"
        )


def refuse_other(found: str | None, folder: Path) -> None:
    """Raises errors.SchemaTooNew, errors.NoWorkspace where no schema was ever made, or errors.SchemaTooOld."""
    refuse_newer(found, folder)
    if found is None:
        raise errors.NoWorkspace(f"the workspace in {folder} was never finished: `wizloop start` makes it")
    if found < HEAD:
        raise errors.SchemaTooOld(
            f"{folder} was written by an older wizloop (schema {found}, this one needs {HEAD}): "
            "`wizloop upgrade` brings it up to date and starts nothing, `wizloop start` goes on with its run too"
        )
