"""Which caches a model needs, and those that cannot be batched."""

from types import SimpleNamespace
from typing import Any

import pytest
from mlx_lm.models.cache import ArraysCache, BatchKVCache, CacheList, ChunkedKVCache, KVCache, RotatingKVCache

from wizloop.backends.guard_types import BackendError
from wizloop.backends.mlx.caches import BatchCache
from wizloop.backends.mlx.kinds import Kind, kind_of


def model(*caches: Any) -> Any:
    return SimpleNamespace(make_cache=lambda: list(caches))


@pytest.mark.parametrize(
    ("caches", "config", "kind"),
    [
        ((KVCache(), KVCache()), {"model_type": "llama"}, Kind(True, 2)),
        ((KVCache(),), {"model_type": "mistral", "sliding_window": 8}, Kind(True, 1, window=8)),
        ((KVCache(),), {"model_type": "gemma2", "num_attention_heads": 4}, Kind(True, 1, grouped=True)),
        ((KVCache(), RotatingKVCache(8)), {"model_type": "olmo3"}, Kind(False, 2)),
        ((KVCache(), ArraysCache(2)), {"model_type": "lfm2"}, Kind(False, 2, states=True)),
        ((CacheList(ArraysCache(2), KVCache()),), {"model_type": "falcon_h1"}, Kind(False, 1, states=True)),
    ],
)
def test_the_kind_of_a_model(caches: Any, config: dict[str, Any], kind: Kind) -> None:
    assert kind_of(model(*caches), config) == kind


def test_a_cache_that_mlx_lm_cannot_batch_is_refused() -> None:
    with pytest.raises(BackendError, match="of type llama4 keeps a ChunkedKVCache, which mlx-lm cannot batch"):
        kind_of(model(KVCache(), CacheList(ChunkedKVCache(8))), {"model_type": "llama4"})


def test_plain_attention_takes_mlx_lms_own_cache_and_a_window_ours() -> None:
    assert type(Kind(True, 1).batch([0])) is BatchKVCache
    assert type(Kind(True, 1, window=8).batch([0])) is BatchCache
