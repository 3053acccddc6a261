"""The fourth screen: the rounds side by side, the gate's reasons, and the model to take away.

An export is a process of its own, which goes on when the screen is left.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import ProgressBar

from wizloop import plugins
from wizloop.console.tables import plain
from wizloop.store import errors
from wizloop.store.overview import RoundSummary
from wizloop.tui import comparison
from wizloop.tui.base_screen import Room
from wizloop.tui.dialogs import Choice, Line, paragraphs
from wizloop.tui.exporting import Exporting
from wizloop.tui.reading import Reading
from wizloop.tui.static import Still
from wizloop.tui.workspace import Look

_FORMATS = {
    "a": ("adapter", "adapter: the LoRA weights over the base"),
    "s": ("safetensors", "safetensors: a whole model, for transformers and vLLM"),
    "m": ("mlx-4bit", "mlx-4bit: a whole model in 4 bits, for MLX"),
}
_CARD = 20_000
_SCROLLBAR = 2
_LOOK_SECONDS = 0.2


def formats() -> dict[str, tuple[str, str]]:
    """Return the export formats by key: built-in ones by letter, the first nine installed ones by digit."""
    installed = zip("123456789", plugins.installed("exporter"), strict=False)
    return {**_FORMATS, **{key: (name, f"{name}: an installed format") for key, name in installed}}


class RoundsRoom(Room):
    """What each round measured and decided."""

    NAME = "rounds"
    ABOUT = (
        "The rounds side by side: F1 and its change from the round before, the gate's decision. Left and right choose "
        "a round, x exports the champion after it, o opens the round's whole report or one of `wizloop evaluate`."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "choose(-1)", "Round before", show=False),
        Binding("right", "choose(1)", "Next round", key_display="<- ->"),
        Binding("x", "export", "Export"),
        Binding("o,enter", "report", "Report", key_display="o"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._rounds: Sequence[RoundSummary] = ()
        self._chosen: int | None = None
        self._exporting = ""

    def body(self) -> Iterable[Widget]:
        with VerticalScroll(id="rounds-table"):
            yield Still(id="side-by-side")
        with VerticalScroll(id="round"):
            yield Still(id="brief")
        yield Still(id="exporting", classes="hidden")
        yield ProgressBar(total=100, show_eta=False, classes="hidden")

    def begin(self) -> None:
        # Up and down read the chosen round; the table above has few lines.
        self.query_one("#round").focus()

    def on_resize(self) -> None:
        self._draw()

    def show(self, look: Look) -> None:
        self._rounds = look.rounds
        self._draw()

    @property
    def _at(self) -> int:
        """The place of the chosen round, the last one until one is chosen."""
        last = len(self._rounds) - 1
        return last if self._chosen is None else min(self._chosen, last)

    def _draw(self) -> None:
        table, brief = self.query_one("#side-by-side", Still), self.query_one("#brief", Still)
        if not self._rounds:
            table.say(plain("no round has begun yet"))
            return
        table.say(comparison.side_by_side(self._rounds, self._at, self.size.width - _SCROLLBAR))
        brief.say(comparison.in_brief(self._rounds[self._at]))

    def action_choose(self, by: int) -> None:
        if self._rounds:
            self._chosen = min(max(self._at + by, 0), len(self._rounds) - 1)
            self._draw()

    async def action_report(self) -> None:
        """Open the round's own report; where `wizloop evaluate` wrote others, ask which."""
        if not self._rounds:
            return
        summary = self._rounds[self._at]
        try:
            written = await asyncio.to_thread(self.desk.reports, summary.round.number)
        except errors.StoreError as error:
            self.wizloop.say(str(error), "error")
            return
        if not written:
            self._open_own(summary)
            return
        answers = {"1": ("", "the round's own figures")}
        for n, (at, folder) in enumerate(written, start=2):
            answers[str(n)] = (folder, f"{at}  {Path(folder).parent.name}/{Path(folder).name}")

        def chosen(folder: str | None) -> None:
            if folder is not None:
                self._open(Path(folder)) if folder else self._open_own(summary)

        self.app.push_screen(Choice(f"Which report on round {summary.round.number}?", answers), chosen)

    def _open_own(self, summary: RoundSummary) -> None:
        self.app.push_screen(Reading(comparison.in_full(summary, self._card(summary))))

    def _open(self, folder: Path) -> None:
        try:
            text = _head_of(folder / "report.md")
        except OSError as error:
            self.wizloop.say(f"{error.filename}: {error.strerror}: it was moved, perhaps", "warning")
            return
        self.app.push_screen(Reading(paragraphs((str(folder), text))))

    def _card(self, summary: RoundSummary) -> str:
        """The card of the round's last export, where there is one."""
        for export in reversed(summary.exports):
            with suppress(OSError):
                return _head_of(self.desk.workspace / export.path / "README.md")
        return ""

    def action_export(self) -> None:
        if self._exporting:
            self.wizloop.say(f"{self._exporting} is still being exported", "warning")
        elif self._rounds:
            number = self._rounds[self._at].round.number
            self.app.push_screen(Choice(f"Export the champion after round {number} as what?", formats()), self._form)

    def _form(self, form: str | None) -> None:
        if not form:
            return
        number = self._rounds[self._at].round.number

        def begin(folder: str | None) -> None:
            if folder:
                self._begin(number, form, Path(folder))

        wanted = Path.cwd() / f"guard-r{number:02d}-{form}"
        self.app.push_screen(Line("Into which new folder?", str(wanted)), begin)

    def _begin(self, number: int, form: str, folder: Path) -> None:
        words = ("export", str(number), "--format", form, "--to", str(folder))
        try:
            export = Exporting((*words, "--workspace", str(self.desk.workspace)))
        except OSError as error:
            self.wizloop.say(f"not exported: {error}", "error")
            return
        self._exporting = f"round {number} as {form}"
        self.query_one("#exporting").remove_class("hidden")
        self.query_one(ProgressBar).remove_class("hidden")
        self._follow(export, f"exporting {self._exporting} into {folder}")

    @work(group="export")
    async def _follow(self, export: Exporting, told: str) -> None:
        """Show how far it is until it has ended, and how."""
        line, bar, shown = self.query_one("#exporting", Still), self.query_one(ProgressBar), None
        while (end := export.ended()) is None:
            if (part := export.part()) != shown:
                shown = part
                bar.update(progress=part[0])
                line.say(plain(f"{told}: {part[1]}"))
            await asyncio.sleep(_LOOK_SECONDS)
        ok, why = end
        said = f"exported {self._exporting}: {why}" if ok else f"not exported: {why}"
        self._exporting = ""
        bar.add_class("hidden")
        line.say(plain(said))
        self.wizloop.say(said, "information" if ok else "error")


def _head_of(path: Path) -> str:
    """The beginning of a text file. Raises OSError."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(_CARD)
