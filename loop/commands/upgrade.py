"""`upgrade`: migrate a workspace of an older wizloop to the newest schema, and change nothing else.

A separate command, because it cannot be undone and because read-only commands must not need write permission.
"""

from pathlib import Path

import click

from wizloop.loop.commands.common import in_workspace, now, report_errors, say


@click.command(short_help="Upgrade a workspace of an older wizloop; start nothing.")
@in_workspace
def upgrade(workspace: Path) -> None:
    """Upgrade a workspace that an older wizloop created, so that it can be read. Its run does not start.

    The older wizloop cannot read it afterwards: copy the folder first if you need it.
    """
    from wizloop.loop.controller import lock
    from wizloop.store.db import Store
    from wizloop.store.errors import SchemaTooOld
    from wizloop.store.versions import HEAD

    with report_errors(lock.Held):
        try:
            Store.open(workspace, readonly=True).close()
        except SchemaTooOld:
            with lock.held(workspace, now()):
                Store.create(workspace).close()
            say(f"{workspace} is upgraded to schema {HEAD}; nothing was started")
        else:
            say(f"{workspace} is up to date (schema {HEAD}); nothing was changed")
