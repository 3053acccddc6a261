"""Folders that tests look into: the project's root, and the real data beside it, which not every machine has."""

from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
SHARED_DATA: Final = ROOT.parent / "shared" / "data"
SHARED_CASES: Final = ROOT.parent / "shared" / "cases"
BENCHMARK_RECIPES: Final = ROOT / "benchmarks" / "recipes"
"""Recipes of benchmarks, which need the real data."""
NEEDS_SHARED_DATA: Final = pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="../shared/data is not on this machine")
"""A decorator for tests of real data."""
