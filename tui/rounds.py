"""The fourth screen: the rounds side by side, the gate's reasons, and the model to take away.

An export is a process of its own, the command line's, which goes on when the screen is left.
"""

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.message import Message
from textual.widget import Widget
from textual.widgets import ProgressBar, Static

from wizloop.store.overview import RoundSummary
from wizloop.tui import comparison
from wizloop.tui.desk import Look, command
from wizloop.tui.dialogs import Choice, Line
from wizloop.tui.reading import Reading
from wizloop.tui.room import Room
from wizloop.tui.tables import plain

_FORMATS = {
    "a": ("adapter", "adapter: the LoRA weights over the base"),
    "s": ("safetensors", "safetensors: a whole model, for transformers and vLLM"),
    "m": ("mlx-4bit", "mlx-4bit: a whole model in 4 bits, for MLX"),
}
_CARD = 20_000


class Exported(Message):
    """An export has ended: where the folder is, or why there is none."""

    def __init__(self, ok: bool, said: str) -> None:
        super().__init__()
        self.ok, self.said = ok, said


class RoundsRoom(Room):
    """What each round measured and decided."""

    NAME = "rounds"
    ABOUT = (
        "The rounds side by side: F1 and its change from the round before, the gate's decision. Left and right choose "
        "a round, x exports the champion after it, o opens the round's whole report."
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
            yield Static(id="side-by-side")
        with VerticalScroll(id="round"):
            yield Static(id="brief")
        yield Static(id="exporting", classes="hidden")
        yield ProgressBar(total=None, show_percentage=False, show_eta=False, classes="hidden")

    def show(self, look: Look) -> None:
        self._rounds = look.rounds
        self._draw()

    @property
    def _at(self) -> int:
        """The place of the chosen round, the last one until one is chosen."""
        last = len(self._rounds) - 1
        return last if self._chosen is None else min(self._chosen, last)

    def _draw(self) -> None:
        table, brief = self.query_one("#side-by-side", Static), self.query_one("#brief", Static)
        if not self._rounds:
            table.update(plain("no round has begun yet"))
            return
        table.update(comparison.side_by_side(self._rounds, self._at))
        brief.update(comparison.in_brief(self._rounds[self._at]))

    def action_choose(self, by: int) -> None:
        if self._rounds:
            self._chosen = min(max(self._at + by, 0), len(self._rounds) - 1)
            self._draw()

    def action_report(self) -> None:
        if self._rounds:
            summary = self._rounds[self._at]
            self.app.push_screen(Reading(comparison.in_full(summary, self._card(summary))))

    def _card(self, summary: RoundSummary) -> str:
        """The card of the round's last export, where there is one."""
        for export in reversed(summary.exports):
            try:
                with (self.desk.workspace / export.path / "README.md").open(encoding="utf-8", errors="replace") as card:
                    return card.read(_CARD)
            except OSError:
                continue
        return ""

    def action_export(self) -> None:
        if self._exporting:
            self.wizloop.say(f"{self._exporting} is still being exported", "warning")
        elif self._rounds:
            number = self._rounds[self._at].round.number
            self.app.push_screen(Choice(f"Export the champion after round {number} as what?", _FORMATS), self._form)

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
        self._exporting = f"round {number} as {form}"
        self.query_one("#exporting", Static).update(plain(f"exporting {self._exporting} into {folder}"))
        self._show_bar(True)
        self._export(number, form, folder)

    def _show_bar(self, on: bool) -> None:
        self.query_one("#exporting").remove_class("hidden")
        self.query_one(ProgressBar).set_class(not on, "hidden")

    @work(thread=True, group="export")
    def _export(self, number: int, form: str, folder: Path) -> None:
        words = ("export", str(number), "--format", form, "--to", str(folder))
        done = subprocess.run(
            command(*words, "--workspace", str(self.desk.workspace)),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
            stdin=subprocess.DEVNULL,
        )
        lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
        self.post_message(Exported(done.returncode == 0, lines[-1] if lines else f"status {done.returncode}"))

    def on_exported(self, message: Exported) -> None:
        told = f"exported {self._exporting}: {message.said}" if message.ok else f"not exported: {message.said}"
        self._exporting = ""
        self.query_one("#exporting", Static).update(plain(told))
        self._show_bar(False)
        self.wizloop.say(told, "information" if message.ok else "error")
