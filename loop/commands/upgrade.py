"""`upgrade`: a workspace of an older wizloop gets the newest schema, and nothing else happens to it.

It is a command of its own because it cannot be undone, and because what only reads must need no right to write.
"""

from pathlib import Path

import click

from wizloop.loop.commands.common import in_workspace, now, say, sentences


@click.command(short_help="Bring an older wizloop's workspace up to date; start nothing.")
@in_workspace
def upgrade(workspace: Path) -> None:
    """Bring a workspace that an older wizloop made up to date, so that it can be read; its run stays where it is.

    The older wizloop reads it no more afterwards: copy the folder first where that matters.
    """
    from wizloop.loop.controller import lock
    from wizloop.store.db import Store
    from wizloop.store.errors import SchemaTooOld
    from wizloop.store.versions import HEAD

    with sentences(lock.Held):
        try:
            Store.open(workspace, readonly=True).close()
        except SchemaTooOld:
            with lock.held(workspace, now()):
                Store.create(workspace).close()
            say(f"{workspace} is brought up to date (schema {HEAD}); nothing was started")
        else:
            say(f"{workspace} is up to date (schema {HEAD}); nothing was changed")
