"""`export`: a round's guard as a folder that other programs load."""

from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from wizloop.loop.commands.common import FILE, ROUND, in_workspace, refuse, report_errors, run_models, say, show

if TYPE_CHECKING:
    from collections.abc import Callable

_BASE: Final = "base"
_CARD = 200_000
"""Most bytes of a card that are shown."""
FORMATS = ("adapter", "adapter-mlx", "safetensors", "mlx-4bit", "mlx-8bit", "nf4", "gguf", "gguf-q8")


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


class _Round(click.ParamType[Any]):
    """A round's number, or the word `base`."""

    name = "round"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == _BASE else ROUND.convert(value, param, ctx)


@click.command(short_help="Export a round's champion, or the base, for other programs.")
@click.argument("round", type=_Round())
@click.option("--format", "form", type=_Format(FORMATS), required=True, help="Format to write; plugins add more.")
@click.option("--to", type=FILE, help="New folder to write into; optional with --push.")
@click.option(
    "--push", metavar="OWNER/NAME", help="Upload it to this model on the Hugging Face hub, private by default."
)
@click.option("--public", is_flag=True, help="With --push: make the model public, or push to one that is.")
@click.option("--dry-run", is_flag=True, help="With --push: show files, sizes and card, and upload nothing.")
@in_workspace
def export(
    round: int | Literal["base"],
    form: str,
    to: Path | None,
    push: str | None,
    public: bool,
    dry_run: bool,
    workspace: Path,
) -> None:
    """Export the champion after ROUND for other programs, or the `base` that was never taught."""
    _check(to, push, public=public, dry_run=dry_run)
    with TemporaryDirectory(prefix="wizloop-") as scratch:
        with run_models(workspace, "export", FileExistsError, ValueError) as ctx:
            from wizloop.loop.phases import export as exporting
            from wizloop.loop.phases import model_roles

            with ctx.store.read() as db:
                model = model_roles.base(db) if round == _BASE else model_roles.champion_after(db, round)
            folder = None if to else exporting.finished(ctx, model, form)
            if folder is None:
                folder = (to or Path(scratch) / form).absolute()
                exporting.write_export(ctx, model, form, folder, _progress(exporting.parts(ctx, form)), timed=True)
        say(f"100 % {model.name} as {form}:")
        if to is not None:
            print(to)
        if push is not None:
            _push(folder, push, public=public, dry_run=dry_run)


def _check(to: Path | None, push: str | None, *, public: bool, dry_run: bool) -> None:
    """Refuse options that do not go together, and a name that the hub would refuse, before any work is done."""
    from wizloop.backends import hub_upload

    if push is None and (public or dry_run):
        refuse("--public and --dry-run are for --push: leave them out, or give OWNER/NAME with --push")
    if push is None and to is None:
        refuse("give a new folder with --to, or a model on the hub with --push")
    if push is not None:
        with report_errors(ValueError):
            hub_upload.check_name(push)


def _push(folder: Path, name: str, *, public: bool, dry_run: bool) -> None:
    """Upload a folder, or show what would be uploaded."""
    from wizloop.backends import hub_upload

    files = hub_upload.plan(folder)
    total = sum(one.size for one in files)
    if dry_run:
        for one in files:
            show(f"{one.size:>15,} bytes  {one.name}")
        show((folder / "README.md").read_text(encoding="utf-8"), _CARD)
    kind = "public" if public else "private"
    say(f"{'would upload' if dry_run else 'uploading'} {len(files)} files, {total:,} bytes, to {name} ({kind})")
    if not dry_run:
        with report_errors(failures=(hub_upload.PushError,)):
            print(hub_upload.push(folder, name, public=public))


def _progress(n: int) -> "Callable[[str], None]":
    """Print each of n parts as it starts, with the share already done: `25 % running the export on dev`."""
    done = count()
    return lambda part: say(f"{100 * next(done) // n} % {part}")
