"""The five screens as SVG pictures, made by the app itself without a terminal. It decides and writes nothing else."""

from pathlib import Path

from textual.pilot import Pilot

from wizloop.tui.app import WizloopApp
from wizloop.tui.base_screen import ROOMS

_SIZE = (100, 30)
_SETTLE_SECONDS = 1.5


def take(app: WizloopApp, folder: Path) -> None:
    """Write overview.svg, review.svg and so on into a folder, which is made where needed."""
    folder.mkdir(parents=True, exist_ok=True)

    async def visit(pilot: Pilot[object]) -> None:
        for key, name in enumerate(ROOMS, start=1):
            await pilot.press(str(key))
            # The near neighbours and the first page come a moment after the screen.
            await pilot.pause(_SETTLE_SECONDS)
            app.save_screenshot(f"{name}.svg", str(folder))
        app.exit("")

    app.run(headless=True, size=_SIZE, auto_pilot=visit)
