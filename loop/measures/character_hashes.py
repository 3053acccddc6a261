"""Count hashed character n-grams of many texts at once, with the same columns as scikit-learn's HashingVectorizer.

It hashes one n-gram at a time, 70 microseconds for a text of ten words. Texts in ASCII are hashed together here, by
NumPy; the others by scikit-learn.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SIZES: Final = (2, 3, 4, 5)
"""Characters of an n-gram, within a word and the blanks around it."""
_BLANK = 32

Bytes = NDArray[np.uint8]
Words32 = NDArray[np.uint32]


def counts(texts: Sequence[str], columns: int) -> Any:
    """Return a csr_matrix of float32, (texts, columns), as HashingVectorizer(analyzer="char_wb") counts them.

    `columns` is a power of 2; n-grams have SIZES characters, and signs are not alternated.
    """
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import HashingVectorizer

    plain = [text if text.isascii() else "" for text in texts]
    found = _counted(plain, columns)
    if others := [at for at, text in enumerate(texts) if not text.isascii()]:
        how = {"n_features": columns, "alternate_sign": False, "norm": None, "dtype": np.float32}
        each = HashingVectorizer(analyzer="char_wb", ngram_range=(SIZES[0], SIZES[-1]), **how)
        hashed = each.transform([texts[at] for at in others])
        places = csr_matrix((np.ones(len(others)), (others, range(len(others)))), (len(texts), len(others)))
        found = (found + places @ hashed).astype(np.float32)
    return found


def _counted(texts: Sequence[str], columns: int) -> Any:
    from scipy.sparse import csr_matrix

    # A word is hashed with a blank before and after it, which it shares with its neighbors.
    joined = [f" {' '.join(text.lower().split())} " for text in texts]
    letters = np.frombuffer("".join(joined).encode("ascii"), np.uint8)
    # Numbers of 32 bits are sorted twice as fast.
    kind = np.int32 if len(texts) * columns < 2**31 else np.int64
    row_of = np.repeat(np.arange(len(texts), dtype=kind) * columns, [len(one) for one in joined])
    keys = np.concatenate([row_of[at] + (hashed & (columns - 1)).astype(kind) for at, hashed in _grams(letters)])
    keys.sort()
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    data = np.diff(first, append=len(keys)).astype(np.float32)
    rows, indices = np.divmod(keys[first], columns)
    starts = np.searchsorted(rows, np.arange(len(texts) + 1))
    return csr_matrix((data, indices.astype(np.int32), starts.astype(np.int32)), (len(texts), columns))


def _grams(letters: Bytes) -> Iterator[tuple[NDArray[np.int64], Words32]]:
    """Yield of each size the places where n-grams begin, and their hashes, 0 or more.

    `letters` are words with a blank between them; each text begins and ends with one.
    """
    lengths = _lengths(letters == _BLANK)
    for size in SIZES:
        at = np.flatnonzero(lengths >= size)
        yield at, np.abs(_murmur([letters[at + k] for k in range(size)]).view(np.int32)).view(np.uint32)


def _lengths(blank: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return how many characters there are from each place to the blank after the word; 0 at the blank after a text."""
    places = np.arange(len(blank), dtype=np.int32)
    ends = np.where(blank, places, np.int32(len(blank)))
    # The next blank at or after each place.
    following = np.minimum.accumulate(ends[::-1])[::-1]
    after = np.append(following[1:], np.int32(len(blank)))
    left: NDArray[np.int32] = np.where(after < len(blank), after - places + 1, 0)
    left[blank & (after == places + 1)] = 0
    return left


def _murmur(letters: Sequence[Bytes]) -> Words32:
    """Return MurmurHash3 (x86, 32 bits, seed 0) of strings of so many bytes, given letter by letter."""
    hashes = np.zeros(len(letters[0]), np.uint32)
    for start in range(0, len(letters), 4):
        some = letters[start : start + 4]
        block = np.zeros(len(hashes), np.uint32)
        for place, letter in enumerate(some):
            block |= letter.astype(np.uint32) << np.uint32(8 * place)
        block *= np.uint32(0xCC9E2D51)
        block = _rotated(block, 15)
        block *= np.uint32(0x1B873593)
        hashes ^= block
        if len(some) == 4:
            hashes = _rotated(hashes, 13)
            hashes *= np.uint32(5)
            hashes += np.uint32(0xE6546B64)
    hashes ^= np.uint32(len(letters))
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        hashes ^= hashes >> np.uint32(shift)
        hashes *= np.uint32(factor)
    return hashes


def _rotated(numbers: Words32, by: int) -> Words32:
    return (numbers << np.uint32(by)) | (numbers >> np.uint32(32 - by))
