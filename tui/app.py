"""The app: five screens on one workspace. It looks once a second, from a thread, and holds no key and no model.

The run is another process: whatever becomes of this one, the run goes on.
"""

import traceback
from collections.abc import Iterable
from typing import ClassVar

from rich.segment import Segments
from textual import work
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.notifications import SeverityLevel
from textual.screen import Screen

from wizloop.console.tables import plain
from wizloop.store import errors
from wizloop.store.display import shown
from wizloop.tui.base_screen import ROOMS, Room
from wizloop.tui.dialogs import Help, Leave
from wizloop.tui.log import LogRoom
from wizloop.tui.overview import OverviewRoom
from wizloop.tui.review import ReviewRoom
from wizloop.tui.rounds import RoundsRoom
from wizloop.tui.samples import SamplesRoom
from wizloop.tui.workspace import Desk, Look

EVERY_SECONDS = 1.0
_REPORT = 20_000


class Looked(Message):
    """A new look at the workspace, or why there is none. A newer one takes the place of one that waits."""

    def __init__(self, look: Look | None, error: str = "") -> None:
        super().__init__()
        self.look, self.error = look, error

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, Looked)


class WizloopApp(App[str]):
    """The terminal interface. It returns "stop" where the person wants the run to stop after this phase."""

    CSS_PATH = "app.tcss"
    TITLE = "wizloop"
    MODES: ClassVar = {room.NAME: room for room in (OverviewRoom, ReviewRoom, SamplesRoom, RoundsRoom, LogRoom)}
    DEFAULT_MODE = "overview"
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(n), f"room('{name}')", name.capitalize(), show=False) for n, name in enumerate(ROOMS, start=1)),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("q,ctrl+q", "leave", "Leave", key_display="q"),
        Binding("ctrl+p", "command_palette", "Commands", show=False),
    ]

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk
        self.last: Look | None = None
        self._looking = False

    def on_mount(self) -> None:
        self.look()
        self.set_interval(EVERY_SECONDS, self.look)

    def look(self) -> None:
        """Read the workspace in a thread, unless one is at it, and tell the screens."""
        if not self._looking:
            self._looking = True
            self._look()

    @work(thread=True, group="look")
    def _look(self) -> None:
        try:
            looked = Looked(self.desk.look())
        except errors.StoreError as error:
            looked = Looked(None, str(error))
        self.post_message(looked)

    def on_looked(self, message: Looked) -> None:
        self._looking = False
        if message.look is None:
            self.say(message.error, "error")
            return
        self.last = message.look
        for screen in self.screen_stack:
            if isinstance(screen, Room):
                screen.looked(message.look)

    def say(self, message: str, severity: SeverityLevel = "information") -> None:
        """A note in the corner, plain and never markup."""
        self.notify(shown(message, 600), severity=severity, markup=False)

    def action_room(self, name: str) -> None:
        if isinstance(self.screen, Room):
            self.switch_mode(name)

    def action_help(self) -> None:
        if isinstance(self.screen, Room):
            self.push_screen(Help(self.screen.ABOUT, self.screen.active_bindings))

    def action_leave(self) -> None:
        """Leave at once where nothing runs; else ask what becomes of the run."""
        if self.last is None or not self.last.alive or self.desk.readonly:
            self.exit("")
        elif not isinstance(self.screen, Leave):
            self.push_screen(Leave(), self._left)

    def _left(self, wanted: str | None) -> None:
        if wanted == "stop":
            self.want("stop")
        if wanted is not None:
            self.exit(wanted)

    def want(self, wanted: str) -> None:
        """Note what the person wants of the run, and say what comes of it."""
        if self.last is None or not self.last.alive:
            self.say("nothing runs here: `wizloop start` goes on", "warning")
            return
        try:
            self.desk.want(wanted)
        except errors.StoreError as error:
            self.say(str(error), "error")
            return
        self.say(_WISHES[wanted])

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The command palette: the screens, and what can be wanted of the run."""
        for name in ROOMS:
            yield SystemCommand(f"Screen: {name}", f"Go to {name}", lambda name=name: self.switch_mode(name))
        for wanted, (title, about) in _COMMANDS.items():
            yield SystemCommand(title, about, lambda wanted=wanted: self.want(wanted))
        yield from super().get_system_commands(screen)

    def _fatal_error(self) -> None:
        """A crash report without the values of variables, which may hold anything, and with nothing that drives."""
        report = plain(traceback.format_exc(), _REPORT)
        self._exit_renderables.append(Segments(self.console.render(report, self.console.options)))
        self._close_messages_no_wait()


_WISHES = {
    "run": "the run goes on",
    "pause": "the run pauses after the piece that it is at",
    "stop": "the run stops after the phase that it is at",
    "stop_now": "the run stops after the piece that it is at",
}
_COMMANDS = {
    "pause": ("Run: pause", "After the piece that it is at"),
    "run": ("Run: go on", "Let a paused run go on"),
    "stop": ("Run: stop", "After the phase that it is at"),
    "stop_now": ("Run: stop now", "After the piece that it is at"),
}
