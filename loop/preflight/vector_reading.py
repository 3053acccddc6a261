"""What reading the base's vectors of all samples takes: time, and bytes on the disk, before it begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wizloop.backends import model_config
from wizloop.loop.phases import vectors
from wizloop.loop.preflight.data_sources import SPLITS, Source, rows_of
from wizloop.loop.preflight.memory import base_config
from wizloop.recipes.schema import Recipe
from wizloop.store.vector_file import kept_in, row_bytes


@dataclass(frozen=True, slots=True)
class VectorReading:
    """Reading that a run does once, counted to its end."""

    rows: int | None
    """Maximum number of samples; None if unknown without the network."""
    bytes: int | None
    """On the disk; None where the base's config.json is not here or names no width."""
    seconds: float | None
    """For what is not read yet, as fast as in this workspace so far; None if none was read here."""


def vector_reading(recipe: Recipe, sources: Sequence[Source], workspace: Path) -> VectorReading | None:
    """Return what is ahead; None for a recipe that reads no vectors."""
    if not vectors.wanted(recipe):
        return None
    known = [rows_of(sources, split) for split in SPLITS]
    rows = None if None in known else sum(n for n in known if n is not None)
    width = model_config.text_of(base_config(recipe) or {}).get("hidden_size")
    size = rows * row_bytes(2 * width) if rows is not None and isinstance(width, int) else None
    before = kept_in(workspace / vectors.FOLDER)
    seconds = None
    if before is not None and before.read_seconds and rows is not None:
        seconds = max(rows - before.read_rows, 0) * before.read_seconds / before.read_rows
    return VectorReading(rows, size, seconds)
