"""Shipped recipes by name. Parses nothing, so that shell completion is instant."""

from pathlib import Path

HERE = Path(__file__).parent
# TOML files in this folder that are not recipes.
NOT_RECIPES = ("policies", "demo_phrases", "prices")


def shipped() -> dict[str, Path]:
    """Return the files of the shipped recipes by name, in order."""
    return {path.stem: path for path in sorted(HERE.glob("*.toml")) if path.stem not in NOT_RECIPES}
