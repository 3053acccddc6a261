"""The shipped recipes by name. Nothing is parsed here, so that a shell completes their names at once."""

from pathlib import Path

HERE = Path(__file__).parent
# The TOML files beside the shipped recipes that are something else.
NOT_RECIPES = ("policies", "demo_phrases", "prices")


def shipped() -> dict[str, Path]:
    """Return the names of the shipped recipes and their files, in order."""
    return {path.stem: path for path in sorted(HERE.glob("*.toml")) if path.stem not in NOT_RECIPES}
