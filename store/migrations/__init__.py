"""The schema's migrations, one module per step, forward only; a released step is never edited.

Alembic loads only when a migration must be applied.
"""

from pathlib import Path

from sqlalchemy import Connection, MetaData, column, inspect, select, table

from wizloop.store.types import NAMES
from wizloop.store.versions import HEAD

_VERSION = table("alembic_version", column("version_num"))


def revision(db: Connection) -> str | None:
    """Return the revision of the database, or None if it is empty."""
    if not inspect(db).has_table("alembic_version"):
        return None
    return db.scalar(select(_VERSION.c.version_num))


def upgrade(db: Connection, to: str = HEAD) -> None:
    """Apply the missing migrations up to revision `to`, in the caller's transaction."""
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    folder = str(Path(__file__).parent)
    scripts = ScriptDirectory(folder, version_locations=[folder])
    # A migration's tables get their constraint names as wizloop.store.tables does.
    context = MigrationContext.configure(db, opts={"target_metadata": MetaData(naming_convention=NAMES)})
    missing = list(scripts.iterate_revisions(to, revision(db)))
    with Operations.context(context):
        for script in reversed(missing):
            script.module.upgrade()
            context.stamp(scripts, script.revision)
