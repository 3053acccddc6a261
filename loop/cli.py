"""The command `wizloop`: its commands by name. Each lives in a module by theme and imports what it needs when it runs.

Data goes to stdout and talk to stderr. Exit status: 0 done, 1 failed, 2 bad input, 130 interrupted.
"""

import click

from wizloop.loop import (
    cli_audit,
    cli_control,
    cli_data,
    cli_evaluate,
    cli_export,
    cli_import,
    cli_money,
    cli_review,
    cli_show,
    cli_start,
    cli_teach,
    cli_traces,
    cli_watch,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def app() -> None:
    """Teach a small local safety guard overnight: it finds what it is unsure of, a teacher explains, it learns."""


for command in (
    cli_start.start,
    cli_watch.watch,
    cli_show.status,
    cli_show.rounds,
    cli_control.pause,
    cli_control.resume,
    cli_control.stop,
    cli_review.review,
    cli_export.export,
    cli_data.classify,
    cli_evaluate.evaluate,
    cli_audit.audit,
    cli_import.import_,
    cli_import.leaks,
    cli_teach.teach,
    cli_traces.traces,
    cli_money.costs,
    cli_money.keys,
    cli_show.recipes,
    cli_show.doctor,
):
    app.add_command(command)


def main() -> None:
    """Run the command line that this process was started with."""
    app(prog_name="wizloop")


if __name__ == "__main__":
    main()
