"""Nights that begin alike, for the tests of what trains and mines."""

import pytest

from tests.loop.branching import Branch, run
from tests.loop.small_night import Night, recipe


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """A night in which every trace of the seed is approved."""
    night = Night(tmp_path_factory.mktemp("taught") / "a", recipe())
    run(night, 0, "import", "review")
    return night


@pytest.fixture(scope="module")
def trained(taught: Night, tmp_path_factory: pytest.TempPathFactory) -> Night:
    """The same night after training."""
    night = Branch(taught, tmp_path_factory.mktemp("trained") / "a")
    night.phase(0, "train")
    return night
