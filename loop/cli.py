"""The command `wizloop`: its commands by name. Each lives in a module by theme and imports what it needs when it runs.

Data goes to stdout and talk to stderr. Exit status: 0 done, 1 failed, 2 bad input, 130 interrupted.
"""

import errno

import click

from wizloop.loop.commands import (
    audit,
    classify,
    control,
    evaluate,
    export,
    importing,
    money,
    recipes,
    review,
    show,
    start,
    teach,
    traces,
    upgrade,
    watch,
)
from wizloop.loop.commands.common import FAILED, INTERRUPTED, refuse


class _InOrder(click.Group):
    """Lists its commands as an evening needs them, and ends them with a sentence where they foresaw nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            refuse("interrupted", INTERRUPTED)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            # A disk that is full, a folder that may not be written to: what it was about says more than where.
            refuse(f"{error.filename or 'the output'}: {error.strerror or error}", FAILED)


@click.group(cls=_InOrder, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="wizloop", message="wizloop %(version)s")
def app() -> None:
    """Teach a small local safety guard overnight: it finds what it is unsure of, a teacher explains, it learns."""


for command in (
    start.start,
    watch.watch,
    show.status,
    show.rounds,
    control.pause,
    control.resume,
    control.stop,
    review.review,
    recipes.recipes,
    show.doctor,
    upgrade.upgrade,
    importing.import_,
    importing.leaks,
    classify.classify,
    evaluate.evaluate,
    audit.audit,
    export.export,
    teach.teach,
    traces.traces,
    money.costs,
    money.keys,
):
    app.add_command(command)


def main() -> None:
    """Run the command line that this process was started with."""
    app(prog_name="wizloop")


if __name__ == "__main__":
    main()
