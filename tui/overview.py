"""The first screen: what the run does, how far it is, how good the guard is, what was spent, what waits."""

from collections.abc import Iterable

from rich.text import Text
from textual.containers import Horizontal
from textual.widget import Widget

from wizloop.console.progress import event_line
from wizloop.console.tables import plain
from wizloop.tui import formatting
from wizloop.tui.base_screen import Room
from wizloop.tui.f1_plot import F1Plot
from wizloop.tui.static import Still
from wizloop.tui.workspace import Look


class OverviewRoom(Room):
    """The run on one screen of 80 by 24."""

    NAME = "overview"
    ABOUT = (
        "What the run does and what comes next; the phases of this round with rate and time left; F1 by round with its "
        "interval; the pool's confidence with the cut under which the guard counts as uncertain; the four cells, "
        "uncertain compliance first; money; the last events."
    )

    def body(self) -> Iterable[Widget]:
        with Horizontal(id="upper"):
            yield Still(id="phases")
            yield F1Plot(id="f1")
        with Horizontal(id="lower"):
            yield Still(id="cells")
            yield Still(id="histogram")
        yield Still(id="lately")

    def show(self, look: Look) -> None:
        """Say everything anew; nothing here is more than some lines, and what did not change is not drawn."""
        phases = self.query_one("#phases", Still)
        phases.say(formatting.phase_lines(look.now, look.at, phases.size.width))
        self.query_one("#f1", F1Plot).show(look.rounds)
        spent, left = formatting.money(look.now)
        below = plain(f"\n{spent}\n{left}; {look.now.to_review:,} to review")
        self.query_one("#cells", Still).say(Text.assemble(formatting.cell_lines(look.confidence), below))
        histogram = self.query_one("#histogram", Still)
        histogram.say(formatting.histogram_lines(look.confidence, max(histogram.size.height - 2, 1)))
        lines = [event_line(event) for event in look.lately]
        lately = self.query_one("#lately", Still)
        for line in lines:
            line.truncate(max(lately.size.width, 10), overflow="ellipsis")
        lately.say(Text("\n").join(lines[-max(lately.size.height, 1) :]))

    def on_resize(self) -> None:
        if self.wizloop.last is not None:
            self.call_after_refresh(self.looked, self.wizloop.last)
