"""Texts that are drawn anew only when they have changed: a look comes every second, and most of it says the same.

The line of keys at the foot is one of them: Textual's Footer is a widget for each key, laid out with every screen.
"""

from collections.abc import Sequence

from rich.text import Text
from textual.binding import ActiveBinding
from textual.events import Click
from textual.widgets import Static


class Still(Static):
    """A text that does not lay the screen out again for being said twice."""

    _said: Text | None = None

    def say(self, text: Text) -> None:
        """Show a text, unless it is shown already."""
        if text == self._said:
            return
        self._said = text
        height = self.styles.height
        self.update(text, layout=height is None or height.is_auto)


class Keys(Still):
    """The keys of a screen that are shown, on one line; a click does what the key does."""

    def on_resize(self) -> None:
        self.say(Text("", no_wrap=True).join(text for text, _ in self._parts()))

    async def on_click(self, event: Click) -> None:
        end = 0
        for text, found in self._parts():
            end += text.cell_len
            if event.x < end:
                await self.app.run_action(found.binding.action, found.node)
                return

    def _parts(self) -> Sequence[tuple[Text, ActiveBinding]]:
        """Each key with what it does, once, with a gap as wide as there is room for."""
        shown: dict[str, ActiveBinding] = {}
        for found in self.screen.active_bindings.values():
            if found.binding.show and found.binding.description:
                shown.setdefault(found.binding.action, found)
        words = [(self.app.get_key_display(one.binding), one.binding.description) for one in shown.values()]
        wide = sum(len(key) + len(what) + 3 for key, what in words) <= self.size.width
        gap = "  " if wide else " "
        texts = [Text.assemble((key, "bold"), f" {what}{gap}") for key, what in words]
        return list(zip(texts, shown.values(), strict=True))
