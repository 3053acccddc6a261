"""How a database gets the newest schema: forward only. Alembic loads only when there is work."""

from pathlib import Path

from sqlalchemy import Connection, MetaData, column, inspect, select, table

from wizloop.store.columns import NAMES
from wizloop.store.versions import HEAD

_VERSION = table("alembic_version", column("version_num"))


def revision(db: Connection) -> str | None:
    """The revision that the database is at; None for an empty one."""
    if not inspect(db).has_table("alembic_version"):
        return None
    return db.scalar(select(_VERSION.c.version_num))


def upgrade(db: Connection, to: str = HEAD) -> None:
    """Apply every migration up to `to` that the database lacks, in the caller's transaction."""
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    folder = Path(__file__).parent / "migrations"
    scripts = ScriptDirectory(str(folder), version_locations=[str(folder)])
    # A migration's tables get their constraint names as wizloop.store.tables does.
    context = MigrationContext.configure(db, opts={"target_metadata": MetaData(naming_convention=NAMES)})
    missing = list(scripts.iterate_revisions(to, revision(db)))
    with Operations.context(context):
        for script in reversed(missing):
            script.module.upgrade()
            context.stamp(scripts, script.revision)
