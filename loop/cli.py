"""The command `wizloop`: its commands by name. Each lives in a module by theme, which is imported when it is asked for.

Data goes to stdout and talk to stderr. Exit status: 0 done, 1 failed, 2 bad input, 130 interrupted.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

from wizloop.loop.commands.common import FAILED, INTERRUPTED, refuse, told

_GROUPS = {
    "Run a night": {
        "start": "start",
        "watch": "watch",
        "status": "show",
        "rounds": "show",
        "pause": "control",
        "resume": "control",
        "stop": "control",
    },
    "Review and data": {
        "review": "review",
        "import": "import_data",
        "leaks": "import_data",
        "audit": "audit",
    },
    "Measure and use": {
        "evaluate": "evaluate",
        "classify": "classify",
        "export": "export",
    },
    "Teachers and money": {
        "teach": "teach",
        "traces": "traces",
        "costs": "money",
        "keys": "money",
    },
    "Set up": {
        "doctor": "show",
        "recipes": "recipes",
        "upgrade": "upgrade",
    },
}
"""The headings of `--help`; below each, its commands and the module in loop/commands that holds them."""

_MODULES = {name: module for commands in _GROUPS.values() for name, module in commands.items()}


class _ByName(click.Group):
    """Imports the command that is asked for and no other, and ends with a sentence where none was foreseen."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULES:
            return None
        module = import_module(f"wizloop.loop.commands.{_MODULES[cmd_name]}")
        # A word of Python's own cannot name a function: `import` is import_.
        found = getattr(module, cmd_name, None) or getattr(module, f"{cmd_name}_")
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, _MODULES))
        # Indent, gap and margin are two columns each.
        room = formatter.width - width - 6
        for heading, names in _GROUPS.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            rows = [(name.ljust(width), each.get_short_help_str(room)) for name, each in commands if each]
            with formatter.section(heading):
                formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            # Click knows only commands that are imported, and names the nearest of those.
            raise click.NoSuchCommand(error.command_name, possibilities=_MODULES, ctx=ctx) from None

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        # The help and the version are printed here, before anything is invoked.
        with _unforeseen():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> object:
        with _unforeseen():
            return super().invoke(ctx)


@contextmanager
def _unforeseen() -> Iterator[None]:
    """End with a sentence on Ctrl-C, on a disk that is full, on a folder that may not be written to."""
    try:
        yield
    except KeyboardInterrupt:
        refuse("interrupted", INTERRUPTED)
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        refuse(told(error), FAILED)


@click.group(cls=_ByName, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="wizloop", message="wizloop %(version)s")
def app() -> None:
    """Teach a small local safety guard overnight: it finds what it is unsure of, a teacher explains, it learns."""


def main() -> None:
    """Run the command line that this process was started with."""
    app(prog_name="wizloop")


if __name__ == "__main__":
    main()
