"""The command `wizloop`: its commands by name. Each lives in a module by theme and imports what it needs when it runs.

Data goes to stdout and talk to stderr. Exit status: 0 done, 1 failed, 2 bad input, 130 interrupted.
"""

import typer

from wizloop.loop import cli_control, cli_data, cli_export, cli_review, cli_show, cli_start

app = typer.Typer(
    name="wizloop",
    help="Teach a small local safety guard overnight: it finds what it is unsure of, a teacher explains, it learns.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(cli_start.start)
app.command()(cli_show.status)
app.command()(cli_show.rounds)
app.command()(cli_control.pause)
app.command()(cli_control.resume)
app.command()(cli_control.stop)
app.command()(cli_review.review)
app.command()(cli_export.export)
app.command()(cli_data.classify)
app.command("import")(cli_data.import_)
app.command()(cli_show.recipes)
app.command()(cli_show.doctor)


def main() -> None:
    """Run the command line that this process was started with."""
    app()


if __name__ == "__main__":
    main()
