"""An app whose notes and crash report are sanitized: both may hold text of a pool, a model or a person."""

import traceback

from rich.segment import Segments
from textual.app import App, ReturnType
from textual.notifications import SeverityLevel

from wizloop.console.tables import plain
from wizloop.store.display import shown

_REPORT = 20_000


class SafeApp(App[ReturnType]):
    """A terminal app that shows text as content, never as markup."""

    CSS_PATH = "app.tcss"
    TITLE = "wizloop"

    def say(self, message: str, severity: SeverityLevel = "information") -> None:
        """Show a sanitized note in the corner."""
        self.notify(shown(message, 600), severity=severity, markup=False)

    def _fatal_error(self) -> None:
        """Print a sanitized crash report without the values of variables, which may hold secrets."""
        report = plain(traceback.format_exc(), _REPORT)
        self._exit_renderables.append(Segments(self.console.render(report, self.console.options)))
        self._close_messages_no_wait()
