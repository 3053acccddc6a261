"""Build the embedded guard from scratch: a tiny Llama pretrained on the caller's text, which knows no verdict.

The build is deterministic: the same texts, seed, and shape give the same files on the same machine. Steps: a tokenizer
(tokenizer.py); initial weights that know topics and pool a text (weights.py); language modeling, which leaves the
pooling alone and teaches the forms of an answer. The folder has the Hugging Face layout (config.json,
model.safetensors, tokenizer.json), so that mlx-lm and transformers load it like any other Llama. The output head is
separate from the embeddings, because language modeling would otherwise bend them from topics to grammar.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wizloop.backends.tiny.tokenizer import train_tokenizer, write_tokenizer
from wizloop.backends.tiny.weights import Start, arrange, start

Progress = Callable[[str, int, int], None]

LEAST_TEXTS = 20
# Characters of a text that are used: the rest of a long one costs more than it teaches.
_MOST_CHARACTERS = 600
# Tokens of the pool in an epoch, and of the fixed texts; more did not help.
_READ, _READ_FIXED = 100_000, 30_000
_ROWS, _LONGEST = 16, 96
_RATE = 2e-3
# One position in this many is predicted: the softmax over the vocabulary is most of the cost.
_EVERY = 3


@dataclass(frozen=True, slots=True)
class Shape:
    """The guard's size. The default has 1.4 million parameters."""

    vocab: int = 4096
    layers: int = 2
    width: int = 128
    mlp: int = 256
    heads: int = 4
    positions: int = 2048


def build(
    folder: Path,
    texts: Sequence[str],
    *,
    shape: Shape,
    epochs: int,
    seed: int,
    progress: Progress,
    fixed_texts: Sequence[str] = (),
) -> None:
    """Write a guard pretrained on `texts` into the empty `folder`.

    `fixed_texts` (the instruction, the answer blocks) are added for the tokenizer and for language modeling, so that
    every fixed line is cheap. `progress(step, done, total)` is called from each step. Raises ValueError for fewer than
    20 texts.
    """
    if len(texts) < LEAST_TEXTS:
        raise ValueError(
            f"a guard cannot be built from {len(texts)} texts: give the pool at least {LEAST_TEXTS} samples, "
            "or set guard.base to a model"
        )
    progress("tokenizer", 0, 1)
    cut = [text[:_MOST_CHARACTERS] for text in texts]
    tokenizer = train_tokenizer(cut, fixed_texts, shape.vocab)
    pool, fixed = ([tokenizer.encode(text).ids for text in each] for each in (cut, fixed_texts))
    progress("embeddings", 0, 1)
    vocab = tokenizer.get_vocab_size()
    begin = start(pool, fixed, vocab, shape.width, seed=seed)
    write_tokenizer(folder, tokenizer, shape.positions)
    config = _config(shape, vocab)
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    rng = np.random.default_rng(seed)
    batches = [batch for _ in range(epochs) for batch in _epoch(pool, fixed, rng)]
    _write_model(folder, config, begin, batches, seed=seed, progress=progress)


def _config(shape: Shape, vocab: int) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.width,
        "intermediate_size": shape.mlp,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "head_dim": shape.width // shape.heads,
        "rms_norm_eps": 1e-5,
        "vocab_size": vocab,
        "max_position_embeddings": shape.positions,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
        "hidden_act": "silu",
        "eos_token_id": 0,
        "pad_token_id": 0,
        "bos_token_id": None,
        "dtype": "float32",
    }


class _Batch(NamedTuple):
    """All [rows, ...]: token ids, the predicted positions, the tokens after them, and 1 where not padding."""

    tokens: NDArray[np.int32]
    positions: NDArray[np.int64]
    targets: NDArray[np.int32]
    mask: NDArray[np.float32]


def _write_model(
    folder: Path, config: dict[str, Any], begin: Start, batches: Sequence[_Batch], *, seed: int, progress: Progress
) -> None:
    """Train a language model from the weights `begin` and write model.safetensors."""
    import mlx.core as mx
    import mlx.nn as nn
    from mlx import optimizers
    from mlx.utils import tree_flatten
    from mlx_lm.models.llama import Model, ModelArgs

    from wizloop.backends.mlx.cpu_entropy import entropies

    mx.random.seed(seed)
    model = Model(ModelArgs.from_dict(config))
    arrange(model, begin)
    model.model.embed_tokens.freeze()
    model.layers[0].self_attn.freeze()
    schedule = optimizers.cosine_decay(_RATE, max(1, len(batches)), _RATE / 10)
    optimizer = optimizers.AdamW(learning_rate=schedule, weight_decay=0.01)

    def loss(model: Any, tokens: Any, positions: Any, targets: Any, mask: Any) -> Any:
        hidden = mx.take_along_axis(model.model(tokens), positions[:, :, None], axis=1)
        return (entropies(model.lm_head(hidden), targets) * mask).sum() / mask.sum()

    step = nn.value_and_grad(model, loss)
    for done, batch in enumerate(batches, start=1):
        _, gradient = step(model, *(mx.array(each) for each in batch))
        gradient, _ = optimizers.clip_grad_norm(gradient, 1.0)
        optimizer.update(model, gradient)
        mx.eval(model.parameters(), optimizer.state)
        if done % 10 == 0 or done == len(batches):
            progress("reading", done, len(batches))
    weights = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "pt"})


def _epoch(pool: Sequence[Sequence[int]], fixed: Sequence[Sequence[int]], rng: np.random.Generator) -> list[_Batch]:
    """Return the batches of an epoch over a part of both, rows of similar length together, in random order."""
    rows = _random_rows(pool, _READ, rng) + _random_rows(fixed, _READ_FIXED, rng)
    rows.sort(key=len)
    batches = [_batch(rows[at : at + _ROWS], rng) for at in range(0, len(rows), _ROWS)]
    return [batches[at] for at in rng.permutation(len(batches))]


def _random_rows(texts: Sequence[Sequence[int]], most: int, rng: np.random.Generator) -> list[list[int]]:
    """Return rows of at most _LONGEST tokens, up to `most` in all, from texts in random order with end tokens."""
    rows: list[list[int]] = []
    room = most
    for at in rng.permutation(len(texts)):
        if room <= 0:
            break
        ids = [*texts[at], 0]
        room -= len(ids)
        rows += [ids[begin : begin + _LONGEST] for begin in range(0, len(ids) - 1, _LONGEST - 1)]
    return rows


def _batch(rows: Sequence[Sequence[int]], rng: np.random.Generator) -> _Batch:
    length = max(len(row) for row in rows)
    tokens, known = np.zeros((len(rows), length), np.int32), np.zeros((len(rows), length), np.float32)
    for i, row in enumerate(rows):
        tokens[i, : len(row)], known[i, : len(row)] = row, 1.0
    places = np.tile(np.arange(length - 1), (len(rows), 1))
    positions = np.sort(rng.permuted(places, axis=1)[:, : -(-(length - 1) // _EVERY)], axis=1)
    targets = np.take_along_axis(tokens[:, 1:], positions, axis=1)
    mask = np.take_along_axis(known[:, 1:], positions, axis=1)
    # If all drawn positions were padding, the loss would divide by zero.
    mask[0, 0] = 1.0
    return _Batch(tokens[:, :-1], positions, targets, mask)
