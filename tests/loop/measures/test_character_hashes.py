"""Character n-grams are counted in the columns that scikit-learn hashes them to, text by text."""

import random

import numpy as np
import pytest
from sklearn.feature_extraction.text import HashingVectorizer

from wizloop.loop.measures.character_hashes import counts

COLUMNS = 2**12
THEIRS = HashingVectorizer(
    analyzer="char_wb", ngram_range=(2, 5), n_features=COLUMNS, alternate_sign=False, norm=None, dtype=np.float32
)
TEXTS = [
    "How do I bake bread?",
    "",
    "   ",
    "a",
    "A b  cd\tefg\nhijk lmnop",
    "HOW do i Bake bread?  ",
    "naïve café",
    "日本語 text",
    "aaaa aaaa aaaa",
    "a\x1fb\x00c d\x7f",
]


def random_text(seed: int) -> str:
    draw = random.Random(seed)
    return "".join(chr(draw.randrange(0, 128)) for _ in range(draw.randrange(300)))


@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:1], ["", ""], TEXTS[6:8], [random_text(seed) for seed in range(50)]])
def test_counts_are_those_of_scikit_learn(texts: list[str]) -> None:
    found, wanted = counts(texts, COLUMNS), THEIRS.transform(texts)
    wanted.sum_duplicates()
    assert found.dtype == np.float32
    assert found.shape == wanted.shape
    assert (found != wanted).nnz == 0
    assert found.has_canonical_format


def test_no_text_has_no_row() -> None:
    assert counts([], COLUMNS).shape == (0, COLUMNS)
