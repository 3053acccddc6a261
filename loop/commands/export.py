"""`export`: a round's guard as a folder that other programs load."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from wizloop.loop.commands.common import FILE, ROUND, in_workspace, run_models, say

if TYPE_CHECKING:
    from collections.abc import Callable

FORMATS = ("adapter", "safetensors", "mlx-4bit", "nf4")


class _Format(click.Choice[str]):
    """A built-in export format or a plugin's; plugins are looked up only when named."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from wizloop import plugins

        try:
            if value not in FORMATS:
                plugins.refuse_name("exporter", value, FORMATS)
        except plugins.PluginError as error:
            self.fail(str(error), param, ctx)
        return value


@click.command
@click.argument("round", type=ROUND)
@click.option("--format", "form", type=_Format(FORMATS), required=True, help="Format to write; plugins add more.")
@click.option("--to", type=FILE, required=True, help="New folder to write into.")
@in_workspace
def export(round: int, form: str, to: Path, workspace: Path) -> None:
    """Export the champion after ROUND for other programs."""
    from wizloop.loop.phases import export as exporting
    from wizloop.loop.phases import model_roles

    with run_models(workspace, "export", FileExistsError, ValueError) as ctx:
        with ctx.store.read() as db:
            model = model_roles.champion_after(db, round)
        exporting.write_export(ctx, model, form, to.absolute(), _progress(exporting.PARTS))
    say(f"100 % {model.name} as {form}:")
    print(to)


def _progress(n: int) -> "Callable[[str], None]":
    """Print each of n parts as it starts, with the share already done: `25 % running the export on dev`."""
    shares = iter(range(0, 100, 100 // n))
    return lambda part: say(f"{next(shares)} % {part}")
