"""The `wizloop` command line. Each command's module is imported when the command is used.

Data goes to stdout, messages to stderr. Exit status: 0 done, 1 failed, 2 bad input, 130 interrupted.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

from wizloop.loop.commands.common import BAD_INPUT, FAILED, INTERRUPTED, error_text, refuse

_GROUPS = {
    "Run a night": ("start", "watch", "status", "rounds", "champion", "pause", "resume", "stop", "train"),
    "Review and data": ("review", "import", "data", "leaks", "audit"),
    "Measure and use": ("evaluate", "rate", "classify", "serve", "export"),
    "Teachers and money": ("teach", "traces", "costs", "keys"),
    "Set up": ("doctor", "recipes", "upgrade", "repair"),
}
"""Headings of `--help` with their commands."""
_COMMANDS = [name for names in _GROUPS.values() for name in names]
_MODULES = {
    **dict.fromkeys(("status", "rounds", "doctor"), "show"),
    **dict.fromkeys(("pause", "resume", "stop"), "control"),
    **dict.fromkeys(("import", "leaks"), "import_data"),
    **dict.fromkeys(("costs", "keys"), "money"),
    "data": "data_export",
}
"""Modules of loop/commands that hold several commands; any other command's module has its name."""


_NO_FILE = (errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.EINVAL, errno.EFBIG)
"""Errors of a name that can be no file's, or of a file that is none."""


class _LazyGroup(click.Group):
    """Import only the command that is used; turn unexpected interrupts and OS errors into messages."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return _COMMANDS

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"wizloop.loop.commands.{_MODULES.get(cmd_name, cmd_name)}")
        # `import` is a keyword: its function is import_.
        command = getattr(module, cmd_name, None) or getattr(module, f"{cmd_name}_")
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, _COMMANDS))
        # Indent, gap and margin take two columns each.
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
            # Click would suggest only commands that are already imported.
            raise click.NoSuchCommand(error.command_name, possibilities=_COMMANDS, ctx=ctx) from None

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        # Help and version are printed here, before `invoke`.
        with _messages():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> object:
        with _messages():
            return super().invoke(ctx)


@contextmanager
def _messages() -> Iterator[None]:
    """Turn Ctrl-C and OS errors, such as a full disk, into a message and an exit status."""
    try:
        yield
    except KeyboardInterrupt:
        refuse("interrupted", INTERRUPTED)
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        refuse(error_text(error), BAD_INPUT if error.errno in _NO_FILE else FAILED)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="wizloop", message="wizloop %(version)s")
def app() -> None:
    """Train a small local safety guard overnight: it finds what it is unsure of, a teacher explains, it learns."""


def main() -> None:
    """Run the command line of this process."""
    app(prog_name="wizloop")


if __name__ == "__main__":
    main()
