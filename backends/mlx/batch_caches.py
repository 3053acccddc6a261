"""Passes of models that keep something else than the keys and values of the whole text: windows, or states.

mlx-lm's batch caches do it: rows are padded on the right, and each cache is told the lengths and leaves the padding
out. States would not (mlx-lm's nemotron_h does not pass the lengths on, and the others lose them after 256 tokens), so
rows of a model with states are of equal length. One row's prefix is run once and repeated for all rows. Slower than
caches.py, which holds only where every layer attends to the whole text.
"""

from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from wizloop.backends.guard_base import Bodies, Prefix, padded

Caches = list[Any]
"""One cache for each layer that has one, as mlx-lm's make_prompt_cache returns them."""


class BatchPasses:
    """The passes before decoding, for a model with any caches that mlx-lm merges into a batch."""

    def __init__(self, model: Any, hidden: Callable[..., mx.array]) -> None:
        self._model, self._hidden = model, hidden

    def prefix(self, tokens: Prefix, known: int, before: Caches) -> Caches:
        """Return one row's caches after `tokens`, whose first `known` are in the caches `before`, if there are any."""
        caches = self._repeated(before, 1) if before else make_prompt_cache(self._model)
        if tokens:
            self._hidden(mx.array([tokens[known if before else 0 :]]), cache=caches)
            mx.eval([cache.state for cache in caches])
        return [cache.extract(0) for cache in caches] if before else caches

    def states(self, prefix: Caches, bodies: Bodies) -> mx.array:
        """Return hidden states [rows, longest body, width] of bodies that follow the prefix."""
        # What is read comes before the padding, and the caches are thrown away.
        return self._hidden(mx.array(padded(bodies), mx.int32), cache=self._repeated(prefix, len(bodies)))

    def rows(self, prefix: Caches, bodies: Bodies) -> Iterator[Caches]:
        """Yield each row's caches after the prefix and its body. Bodies are of equal length if the model has states."""
        caches = self._repeated(prefix, len(bodies))
        lengths = [len(body) for body in bodies]
        padding = [max(lengths) - length for length in lengths]
        if max(padding):
            for cache in caches:
                cache.prepare(lengths=lengths, right_padding=padding)
        if max(lengths):
            self._hidden(mx.array(padded(bodies), mx.int32), cache=caches)
        if max(padding):
            for cache in caches:
                cache.finalize()
        mx.eval([cache.state for cache in caches])
        for row in range(len(bodies)):
            yield [cache.extract(row) for cache in caches]

    @staticmethod
    def _repeated(caches: Caches, rows: int) -> Caches:
        """Return batch caches with one row's caches in every row. Merging a list of them would copy for each row."""
        repeated = [cache.merge([cache]) for cache in caches]
        for cache in repeated:
            cache.filter(mx.zeros(rows, mx.int32))
        return repeated
