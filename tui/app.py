"""The app: five screens on one workspace, read once a second in a thread. Has no key and no model.

The run is another process and does not depend on the app.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.pilot import Pilot
from textual.screen import Screen

from wizloop.store import errors
from wizloop.tui.base_screen import SCREENS, BaseScreen
from wizloop.tui.dialogs import Help, Leave
from wizloop.tui.log import LogScreen
from wizloop.tui.overview import OverviewScreen
from wizloop.tui.review import ReviewScreen
from wizloop.tui.rounds import RoundsScreen
from wizloop.tui.safe_app import SafeApp
from wizloop.tui.samples import SamplesScreen
from wizloop.tui.workspace import Snapshot, Workspace

EVERY_SECONDS = 1.0
_PICTURE_SIZE = (100, 30)
_SETTLE_SECONDS = 1.5
"""Time until a screen's first page and similar traces are shown."""
_REQUESTS = {
    "run": ("Run: resume", "Resume a paused run", "Resumed."),
    "pause": ("Run: pause", "After the current batch", "Will pause after the current batch."),
    "stop": ("Run: stop", "After the current phase", "Will stop after the current phase."),
    "stop_now": ("Run: stop now", "After the current batch", "Will stop after the current batch."),
}
"""Title and description in the command palette, and the note once it is requested."""


@dataclass
class Polled(Message):
    """A new snapshot of the workspace, or the error. A newer one replaces one that waits."""

    snapshot: Snapshot | None
    error: str = ""

    def can_replace(self, message: Message) -> bool:
        """Replace any other one."""
        return isinstance(message, Polled)


class WizloopApp(SafeApp[str]):
    """The terminal app. Returns "stop" if the user wants the run to stop after this phase."""

    MODES: ClassVar = {
        screen.NAME: screen for screen in (OverviewScreen, ReviewScreen, SamplesScreen, RoundsScreen, LogScreen)
    }
    DEFAULT_MODE = "overview"
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(n), f"go('{name}')", name.capitalize(), show=False) for n, name in enumerate(SCREENS, start=1)),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("q,ctrl+q", "leave", "Leave", key_display="q"),
        Binding("ctrl+p", "command_palette", "Commands", show=False),
    ]

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self.workspace = workspace
        self.last: Snapshot | None = None
        self._polling = False

    def on_mount(self) -> None:
        """Poll now and once a second."""
        self.poll()
        self.set_interval(EVERY_SECONDS, self.poll)

    def poll(self) -> None:
        """Read the workspace in a thread and update the screens, unless a thread is still reading."""
        if not self._polling:
            self._polling = True
            self._poll()

    @work(thread=True, group="poll")
    def _poll(self) -> None:
        try:
            polled = Polled(self.workspace.snapshot())
        except errors.StoreError as error:
            polled = Polled(None, str(error))
        self.post_message(polled)

    def on_polled(self, message: Polled) -> None:
        """Update the screens."""
        self._polling = False
        if message.snapshot is None:
            self.say(message.error, "error")
            return
        self.last = message.snapshot
        for screen in self.screen_stack:
            if isinstance(screen, BaseScreen):
                screen.update_snapshot(message.snapshot)

    def action_go(self, name: str) -> None:
        """Open a screen, unless a dialog is open."""
        if isinstance(self.screen, BaseScreen):
            self.switch_mode(name)

    def action_help(self) -> None:
        """Open the help of the screen."""
        if isinstance(self.screen, BaseScreen):
            self.push_screen(Help(self.screen.ABOUT, self.screen.active_bindings))

    def action_leave(self) -> None:
        """Leave if nothing runs; else ask what happens to the run."""
        if self.last is None or not self.last.alive or self.workspace.readonly:
            self.exit("")
        elif not isinstance(self.screen, Leave):
            self.push_screen(Leave(), self._left)

    def _left(self, wanted: str | None) -> None:
        if wanted == "stop":
            self.want("stop")
        if wanted is not None:
            self.exit(wanted)

    def want(self, wanted: str) -> None:
        """Request run, pause, stop or stop_now, and confirm it with a note."""
        if self.last is None or not self.last.alive:
            self.say("Nothing is running. Run `wizloop start` to resume.", "warning")
            return
        try:
            self.workspace.want(wanted)
        except errors.StoreError as error:
            self.say(str(error), "error")
            return
        self.say(_REQUESTS[wanted][-1])

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Yield the commands of the palette: the screens, requests to the run, and Textual's own."""
        for name in SCREENS:
            yield SystemCommand(f"Screen: {name}", f"Go to {name}", lambda name=name: self.switch_mode(name))
        for wanted, (title, about, _) in _REQUESTS.items():
            yield SystemCommand(title, about, lambda wanted=wanted: self.want(wanted))
        yield from super().get_system_commands(screen)


def write_pictures(app: WizloopApp, folder: Path) -> None:
    """Run the app without a terminal and write overview.svg, review.svg and so on into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)

    async def visit(pilot: Pilot[object]) -> None:
        for key, name in enumerate(SCREENS, start=1):
            await pilot.press(str(key))
            await pilot.pause(_SETTLE_SECONDS)
            while any(one.group == "against" and one.is_running for one in app.workers):
                await pilot.pause(_SETTLE_SECONDS)
            app.save_screenshot(f"{name}.svg", str(folder))
        app.exit("")

    app.run(headless=True, size=_PICTURE_SIZE, auto_pilot=visit)
