"""Texts that are redrawn only when they change: every update, once a second, mostly repeats the last one.

The key bar is one of them, because Textual's Footer is a widget per key, laid out with every screen.
"""

from collections.abc import Sequence

from rich.text import Text
from textual.binding import ActiveBinding
from textual.events import Click
from textual.widgets import Static


class CachedStatic(Static):
    """A text that does not trigger a layout when it is set again unchanged."""

    _text: Text | None = None

    def set_text(self, text: Text) -> None:
        """Show a text, unless it is shown already."""
        if text == self._text:
            return
        self._text = text
        height = self.styles.height
        self.update(text, layout=height is None or height.is_auto)


class KeyBar(CachedStatic):
    """The keys of a screen on one line; a click does what the key does."""

    def on_resize(self) -> None:
        """Fit the keys to the new width."""
        self.set_text(Text("", no_wrap=True).join(text for text, _ in self._parts()))

    async def on_click(self, event: Click) -> None:
        """Run the action of the key under the pointer."""
        end = 0
        for text, active in self._parts():
            end += text.cell_len
            if event.x < end:
                await self.app.run_action(active.binding.action, active.node)
                return

    def _parts(self) -> Sequence[tuple[Text, ActiveBinding]]:
        """Return each key with its description, once, with a gap that fits the width."""
        shown: dict[str, ActiveBinding] = {}
        for active in self.screen.active_bindings.values():
            if active.binding.show and active.binding.description:
                shown.setdefault(active.binding.action, active)
        words = [(self.app.get_key_display(active.binding), active.binding.description) for active in shown.values()]
        wide = sum(len(key) + len(what) + 3 for key, what in words) <= self.size.width
        gap = "  " if wide else " "
        texts = [Text.assemble((key, "bold"), f" {what}{gap}") for key, what in words]
        return list(zip(texts, shown.values(), strict=True))
