"""The fourth screen: the base and the rounds side by side, the gate's reasons, reports, and exports.

An export runs in a process of its own and continues when the app exits.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.message import Message
from textual.widget import Widget
from textual.widgets import ProgressBar

from wizloop import plugins, regular_file
from wizloop.console.tables import plain
from wizloop.store import errors
from wizloop.store.overview import BaseSummary, Summary
from wizloop.tui import comparison
from wizloop.tui.base_screen import BaseScreen
from wizloop.tui.dialogs import Choice, Prompt, TextView, paragraphs
from wizloop.tui.exporting import ExportProcess
from wizloop.tui.static import CachedStatic
from wizloop.tui.workspace import Compared, Snapshot

_FORMATS = {
    "a": ("adapter", "adapter: the LoRA weights over the base, for PEFT and vLLM"),
    "l": ("adapter-mlx", "adapter-mlx: the LoRA weights over the base, for mlx-lm"),
    "s": ("safetensors", "safetensors: a whole model, for transformers and vLLM"),
    "m": ("mlx-4bit", "mlx-4bit: a whole model in 4 bits, for MLX"),
    "e": ("mlx-8bit", "mlx-8bit: a whole model in 8 bits, for MLX"),
    "g": ("gguf", "gguf: a whole model in one file, for llama.cpp and Ollama"),
}
_TEXT = 20_000
_SCROLLBAR = 2
_POLL_SECONDS = 0.2


def formats() -> dict[str, tuple[str, str]]:
    """Return the export formats by key: built-in ones by letter, the first nine installed ones by digit."""
    installed = zip("123456789", plugins.installed("exporter"), strict=False)
    return {**_FORMATS, **{key: (name, f"{name}: an installed format") for key, name in installed}}


@dataclass
class Told(Message):
    """How two rounds compare, worked out in a thread."""

    key: tuple[str, str]
    found: Sequence[Compared]


class RoundsScreen(BaseScreen):
    """The measurements and the gate's decision of each round."""

    NAME = "rounds"
    ABOUT = (
        "The base and the rounds side by side: F1 and its change from the round before (~: on the same rows the two "
        "cannot be told apart), the baselines on the same test sets, the gate's decision. Left and right select a "
        "round, x exports the champion after it, o opens the round's whole report or one of `wizloop evaluate`."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "choose(-1)", "Round before", show=False),
        Binding("right", "choose(1)", "Next round", key_display="<- ->"),
        Binding("x", "export", "Export"),
        Binding("o,enter", "report", "Report", key_display="o"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._rounds: Sequence[Summary] = ()
        """The base, if it is measured, and the rounds."""
        self._chosen: int | None = None
        self._exporting = ""
        self._told: dict[tuple[str, str], Sequence[Compared]] = {}
        """By the round that is held against, and the chosen one."""

    def body(self) -> Iterable[Widget]:
        """Yield the table, the chosen round, and the export's progress."""
        with VerticalScroll(id="rounds-table"):
            yield CachedStatic(id="side-by-side")
        with VerticalScroll(id="round"):
            yield CachedStatic(id="brief")
        yield CachedStatic(id="exporting", classes="hidden")
        yield ProgressBar(total=100, show_eta=False, classes="hidden")

    def begin(self) -> None:
        """Focus the chosen round, so that up and down scroll it; the table above is short."""
        self.query_one("#round").focus()

    def on_resize(self) -> None:
        """Fit the table to the new width."""
        self._draw()

    def show(self, snapshot: Snapshot) -> None:
        """Show the rounds."""
        self._rounds = [*([] if snapshot.base is None else [snapshot.base]), *snapshot.rounds]
        self._draw()

    @property
    def _at(self) -> int:
        """Index of the chosen round, the last one by default."""
        last = len(self._rounds) - 1
        return last if self._chosen is None else min(self._chosen, last)

    def _draw(self) -> None:
        if not self._rounds:
            self.set_text("#side-by-side", plain("no round has begun yet"))
            return
        width, told = self.size.width - _SCROLLBAR, self._compared()
        self.set_text("#side-by-side", comparison.side_by_side(self._rounds, self._at, width, told))
        held = "" if not told else comparison.title(self._rounds[self._at - 1]).lower()
        self.set_text("#brief", comparison.in_brief(self._rounds[self._at], held, told))

    def _compared(self) -> Sequence[Compared]:
        """Return the chosen round against the one before, as far as it is known; else have it worked out."""
        if self._at == 0:
            return ()
        held, chosen = self._rounds[self._at - 1].name, self._rounds[self._at]
        if (held, chosen.name) not in self._told and chosen.evaluations:
            self._told[held, chosen.name] = ()
            self._compare(held, chosen.name)
        return self._told.get((held, chosen.name), ())

    @work(thread=True, group="against")
    def _compare(self, held: str, name: str) -> None:
        with suppress(errors.StoreError):
            self.post_message(Told((held, name), self.workspace.against(name, held)))

    def on_told(self, message: Told) -> None:
        """Show how the chosen round compares."""
        self._told[message.key] = message.found
        self._draw()

    def action_choose(self, by: int) -> None:
        """Choose another round."""
        if self._rounds:
            self._chosen = min(max(self._at + by, 0), len(self._rounds) - 1)
            self._draw()

    async def action_report(self) -> None:
        """Open the round's own report, or let the user choose if `wizloop evaluate` wrote others."""
        if not self._rounds:
            return
        summary = self._rounds[self._at]
        if isinstance(summary, BaseSummary):
            self._open_own(summary)
            return
        with self.noted_errors():
            written = await asyncio.to_thread(self.workspace.reports, summary.round.number)
            answers = {"1": ("", "the round's own figures")}
            for n, (at, folder) in enumerate(written, start=2):
                answers[str(n)] = (folder, f"{at}  {Path(folder).parent.name}/{Path(folder).name}")

            def open_report(folder: str | None) -> None:
                if folder is not None:
                    self._open(Path(folder)) if folder else self._open_own(summary)

            if written:
                question = f"Which report on round {summary.round.number}?"
                self.app.push_screen(Choice(question, answers), open_report)
            else:
                self._open_own(summary)

    def _open_own(self, summary: Summary) -> None:
        self.app.push_screen(TextView(comparison.in_full(summary, self._card(summary))))

    def _open(self, folder: Path) -> None:
        try:
            text = _head_of(folder / "report.md")
        except OSError as error:
            self.wizloop.say(f"{error.filename}: {error.strerror} (moved?)", "warning")
            return
        self.app.push_screen(TextView(paragraphs((str(folder), text))))

    def _card(self, summary: Summary) -> str:
        """Return the model card of the round's last export, or an empty text."""
        if isinstance(summary, BaseSummary):
            return ""
        for export in reversed([one for one in summary.exports if one.failed is None]):
            with suppress(OSError):
                return _head_of(self.workspace.folder / export.path / "README.md")
        return ""

    def action_export(self) -> None:
        """Ask for the format and the folder of an export, and start it."""
        if self._exporting:
            self.wizloop.say(f"Still exporting {self._exporting}", "warning")
        elif self._rounds:
            self._ask_form(self._rounds[self._at])

    def _ask_form(self, summary: Summary) -> None:
        if isinstance(summary, BaseSummary):
            self.wizloop.say("The base was taught nothing: choose a round to export its champion", "warning")
            return
        number = summary.round.number
        asked = Choice(f"Export the champion after round {number} as what?", formats())
        self.app.push_screen(asked, lambda form: self._form(number, form))

    def _form(self, number: int, form: str | None) -> None:
        if not form:
            return

        def begin(folder: str | None) -> None:
            if folder:
                self._begin(number, form, Path(folder))

        default = Path.cwd() / f"guard-r{number:02d}-{form}"
        self.app.push_screen(Prompt("Into which new folder?", str(default)), begin)

    def _begin(self, number: int, form: str, folder: Path) -> None:
        words = ("export", str(number), "--format", form, "--to", str(folder))
        try:
            export = ExportProcess((*words, "--workspace", str(self.workspace.folder)))
        except OSError as error:
            self.wizloop.say(f"not exported: {error}", "error")
            return
        self._exporting = f"round {number} as {form}"
        self.query_one("#exporting").remove_class("hidden")
        self.query_one(ProgressBar).remove_class("hidden")
        self._follow(export, f"exporting {self._exporting} into {folder}")

    @work(group="export")
    async def _follow(self, export: ExportProcess, title: str) -> None:
        """Show the progress of an export until it ends, then its result."""
        bar, last = self.query_one(ProgressBar), None
        while (result := export.result()) is None:
            if (progress := export.progress()) != last:
                last = progress
                bar.update(progress=progress[0])
                self.set_text("#exporting", plain(f"{title}: {progress[1]}"))
            await asyncio.sleep(_POLL_SECONDS)
        ok, why = result
        message = f"exported {self._exporting}: {why}" if ok else f"not exported: {why}"
        self._exporting = ""
        bar.add_class("hidden")
        self.set_text("#exporting", plain(message))
        self.wizloop.say(message, "information" if ok else "error")


def _head_of(path: Path) -> str:
    """Read the beginning of a text file. Raises OSError."""
    with regular_file.opened(path) as binary, TextIOWrapper(binary, "utf-8", errors="replace") as file:
        return file.read(_TEXT)
