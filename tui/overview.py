"""The first screen: the run's progress, the guard's quality, money, and what waits for review."""

from collections.abc import Iterable

from rich.text import Text
from textual.containers import Horizontal
from textual.widget import Widget

from wizloop.console import by_policy, category_figures
from wizloop.console.progress import event_line, money
from wizloop.console.tables import plain
from wizloop.tui import formatting
from wizloop.tui.base_screen import BaseScreen
from wizloop.tui.f1_plot import F1Plot
from wizloop.tui.static import CachedStatic
from wizloop.tui.workspace import Snapshot


class OverviewScreen(BaseScreen):
    """The run on one screen of 80 by 24."""

    NAME = "overview"
    ABOUT = (
        "The current phase and the next one; the phases of this round with rate and time left, and the guard's "
        "policies; F1 of the base and of "
        "each round with its interval, and on requests that of calling all harmful (-) and of TF-IDF (t); the pool's "
        "confidence with the threshold below which the guard is uncertain; the four cells, uncertain compliance first; "
        "money; the last events."
    )

    def body(self) -> Iterable[Widget]:
        """Yield phases and plot, cells and histogram, and events."""
        with Horizontal(id="upper"):
            yield CachedStatic(id="phases")
            yield F1Plot(id="f1")
        with Horizontal(id="lower"):
            yield CachedStatic(id="cells")
            yield CachedStatic(id="histogram")
        yield CachedStatic(id="recent")

    def show(self, snapshot: Snapshot) -> None:
        """Set every text again: all are a few lines, and unchanged ones are not redrawn."""
        phases, histogram, recent = (
            self.query_one(f"#{name}", CachedStatic).size for name in ("phases", "histogram", "recent")
        )
        about = [plain(line) for line in by_policy.shown([one.round for one in snapshot.rounds])]
        steps = formatting.phase_lines(snapshot.now, snapshot.at, phases.width, phases.height - len(about))
        policies = [formatting.truncated(about, phases.width)] if about else []
        self.set_text("#phases", Text("\n").join([steps, *policies]))
        self.query_one("#f1", F1Plot).show(snapshot.base, snapshot.rounds)
        spent, left = money(snapshot.now)
        measured = category_figures.in_short([*([] if snapshot.base is None else [snapshot.base]), *snapshot.rounds])
        named = f"\n{measured}" if measured else ""
        below = plain(f"\n{spent}\n{left}; {snapshot.now.to_review:,} to review{named}")
        self.set_text("#cells", Text.assemble(formatting.cell_lines(snapshot.confidence), below))
        drawing = formatting.histogram_lines(snapshot.confidence, max(histogram.height - 2, 1))
        self.set_text("#histogram", drawing)
        lines = [event_line(event) for event in snapshot.recent][-max(recent.height, 1) :]
        self.set_text("#recent", formatting.truncated(lines, recent.width))

    def on_resize(self) -> None:
        """Fit the texts to the new size."""
        if self.wizloop.last is not None:
            self.call_after_refresh(self.update_snapshot, self.wizloop.last)
