"""The tiny guard's initial weights: embeddings that know topics, and a first layer that pools a text.

This is not training. A few hundred labels cannot teach a fresh model what words are about or to look at a whole text;
both are set here from unlabeled text, so that an adapter only has to learn which topics are harmful.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Encoded = Sequence[Sequence[int]]

# Root mean square of an embedding's entries.
SIZE = 0.08
# The last two entries of an embedding hold no topic: its weight in the pooled mean, and a constant to query it with.
EXTRA = 2
_EXTRA_SIZE = 3.0
# Smooth inverse frequency (Arora et al. 2017, A Simple but Tough-to-Beat Baseline): weight a / (a + frequency).
_FREQUENCY = 3e-3
# Weight of tokens that say nothing about a sample: the guard's own lines, and the blank of word dropout.
_LEAST_WEIGHT = 1e-3
# A token of a fixed text with fewer occurrences in the pool counts as the guard's own.
_RARE = 5
# Scale of the pooled mean in the hidden state, in units of an embedding. At 8 and more, adapters diverge.
_POOLED = 3.0
# All other parts start small: whatever they add at random buries the pooled mean.
_DAMPED = 0.1


@dataclass(frozen=True, slots=True)
class Start:
    """`embeddings` [vocab, width]; `range` is the largest minus log weight in them."""

    embeddings: NDArray[np.float32]
    range: float


def start(texts: Encoded, fixed: Encoded, vocab: int, width: int, *, seed: int) -> Start:
    """Build embeddings from the pool's `texts` and the guard's own `fixed` ones, both as token ids."""
    topics = topic_embeddings(texts, vocab, width - EXTRA, seed=seed)
    weights = _log_weights(texts, fixed, vocab)
    largest = float(-weights.min())
    extra = np.stack([weights / largest, np.ones(vocab)], axis=1) * SIZE * _EXTRA_SIZE
    return Start(np.concatenate([topics, extra], axis=1).astype(np.float32), largest)


def topic_embeddings(texts: Encoded, vocab: int, width: int, *, seed: int) -> NDArray[np.float64]:
    """Return [vocab, width] rows of equal norm: latent semantic analysis (Deerwester et al. 1990) of the texts.

    Truncated SVD of the token-by-text tf-idf matrix. The first component, which is the same for all texts, is left out.
    A token in no text gets a random row, so that no two of the guard's own lines are alike.
    """
    from sklearn.utils.extmath import randomized_svd

    matrix = _tf_idf(texts, vocab)
    rank = min(width + 1, min(matrix.shape) - 1)
    left, values, _ = randomized_svd(matrix, rank, n_iter=7, random_state=seed)
    vectors = np.zeros((vocab, width))
    vectors[:, : rank - 1] = left[:, 1:] * np.sqrt(values[1:])
    length = np.linalg.norm(vectors, axis=1)
    unseen = length < 1e-6 * length.max()
    vectors[unseen] = np.random.default_rng(seed).standard_normal((int(unseen.sum()), width))
    scaled: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) * np.sqrt(width) * SIZE
    return scaled


def arrange(model: Any, begin: Start) -> None:
    """Set the weights of `model` (mlx-lm's Llama, head separate from embeddings) so that its first layer pools.

    Every head's query is the constant entry and its key the weight entry, in the slowest rotary pair, where position
    changes almost nothing; values are the embeddings themselves.
    """
    import mlx.core as mx

    heads, width = model.args.num_attention_heads, begin.embeddings.shape[1]
    model.model.embed_tokens.weight = mx.array(begin.embeddings)
    model.lm_head.weight = mx.array(begin.embeddings)
    for layer in model.layers:
        layer.self_attn.o_proj.weight *= _DAMPED
        layer.mlp.down_proj.weight *= _DAMPED
    first = model.layers[0].self_attn
    query, key = _pooling(begin, width, heads)
    # The random part stays, smaller: an adapter can only scale what is there.
    first.q_proj.weight = mx.array(query) + 0.02 * first.q_proj.weight
    first.k_proj.weight = mx.array(key) + 0.02 * first.k_proj.weight
    first.v_proj.weight = mx.diag(mx.array([1.0] * (width - EXTRA) + [0.0] * EXTRA))
    first.o_proj.weight = mx.eye(width) * (_POOLED * SIZE)


def _pooling(begin: Start, width: int, heads: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return query and key weights that make the attention logit of a token its log weight."""
    size = width // heads
    row = float(np.sqrt((begin.embeddings**2).mean(axis=1)).mean()) / SIZE
    gain = np.sqrt(begin.range * np.sqrt(size)) * row / _EXTRA_SIZE
    query, key = np.zeros((width, width), np.float32), np.zeros((width, width), np.float32)
    slowest = np.arange(heads) * size + size - 1
    query[slowest, width - 1], key[slowest, width - 2] = gain, gain
    return query, key


def _log_weights(texts: Encoded, fixed: Encoded, vocab: int) -> NDArray[np.float64]:
    counts = _counts(texts, vocab)
    share = (counts + 1) / (counts + 1).sum()
    weights = _FREQUENCY / (_FREQUENCY + share)
    own = (counts < _RARE) & (_counts(fixed, vocab) > 0)
    weights[own], weights[0] = _LEAST_WEIGHT, _LEAST_WEIGHT
    logs: NDArray[np.float64] = np.log(np.maximum(weights, _LEAST_WEIGHT))
    return logs


def _counts(texts: Encoded, vocab: int) -> NDArray[np.int64]:
    return np.bincount(np.concatenate([[], *texts]).astype(np.int64), minlength=vocab)


def _tf_idf(texts: Encoded, vocab: int) -> Any:
    """Return [vocab, texts]: (1 + log count) times log inverse document frequency, columns of norm 1."""
    from scipy.sparse import coo_matrix, diags

    tokens = np.concatenate([[], *texts]).astype(np.int64)
    number = np.repeat(np.arange(len(texts)), [len(ids) for ids in texts])
    counts = coo_matrix((np.ones(len(tokens)), (tokens, number)), shape=(vocab, len(texts))).tocsr()
    counts.data = 1 + np.log(counts.data)
    # One more than the number of texts: a token in all of them gets a small weight rather than none.
    rarity = np.log((2 + len(texts)) / (1 + np.diff(counts.indptr)))
    weighted = diags(rarity) @ counts
    length = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=0)).ravel())
    return (weighted @ diags(1 / np.where(length > 0, length, 1))).tocsr()
