"""A real tiny guard, trained in a tenth of a second, for the keys that only the training's own code reads."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends.conftest import dense_base as dense_base
from tests.backends.conftest import tiny_base as tiny_base
from tests.loop.keys.training import School
from wizloop.backends.tokens import Tokens
from wizloop.store.db import Store


@pytest.fixture(scope="module")
def school(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[School]:
    with Store.create(tmp_path_factory.mktemp("school")) as store:
        yield School(tiny_base, store)


@pytest.fixture(scope="module")
def tokens(school: School) -> Tokens:
    from transformers import AutoTokenizer

    return Tokens(AutoTokenizer.from_pretrained(school.base))
