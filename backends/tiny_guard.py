"""Builds the embedded guard from nothing: a tiny Llama taught only to read, on text that the caller gives.

It learns no verdict here. The build is deterministic: the same texts, seed and shape give the same files on the same machine.
Steps: a byte-level BPE tokenizer; token embeddings from a truncated SVD of the texts' co-occurrence (PPMI); one or more epochs of
language modelling. The folder has the Hugging Face layout (config.json, model.safetensors, tokenizer.json), so that mlx-lm and
transformers load it like any other Llama.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

END = "<|end|>"
# Fixed lines of a trace are one token each, so that a trace costs its reasoning and little more.
FIXED_LINES = ("Human user:", "AI assistant:", "Reasoning:", "Answers:", "Request:", "Completion:", "Response:")
_FIXED = r"\n?(?:" + "|".join(FIXED_LINES) + r")(?: None\n*)?"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Shape:
    """Size of the guard. The default has 0.85 million parameters."""

    vocab: int = 4096
    layers: int = 2
    width: int = 128
    mlp: int = 256
    heads: int = 4
    positions: int = 2048


def build(
    folder: Path, texts: Sequence[str], *, shape: Shape, epochs: int, seed: int, progress: Progress, fixed_texts: Sequence[str] = ()
) -> None:
    """Write a guard that can read `texts` into the empty `folder`.

    `fixed_texts` (the instruction, the answer blocks) are added for the tokenizer and for reading, so that every fixed line is cheap.
    `progress(step, done, total)` is called from each step. Raises ValueError when there are fewer than 20 texts.
    """
    if len(texts) < 20:
        raise ValueError(f"a guard cannot be built from {len(texts)} texts: give the pool at least 20 samples, or name a model in guard.base")
    progress("tokenizer", 0, 1)
    tokenizer = train_tokenizer([*texts, *fixed_texts], shape.vocab)
    encoded = [tokenizer.encode(text).ids for text in [*texts, *fixed_texts]]
    progress("embeddings", 0, 1)
    vocab = tokenizer.get_vocab_size()
    embeddings = cooccurrence_embeddings(encoded, vocab, shape.width, seed=seed)
    _write_tokenizer(folder, tokenizer, shape)
    config = _config(shape, vocab)
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    _pretrain(folder, config, encoded, embeddings, epochs=epochs, seed=seed, progress=progress)


def train_tokenizer(texts: Sequence[str], vocab: int) -> Any:
    """A byte-level BPE with one special token, the end of a text."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_FIXED), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=[END], initial_alphabet=alphabet, min_frequency=2, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def cooccurrence_embeddings(encoded: Sequence[Sequence[int]], vocab: int, width: int, *, seed: int, window: int = 5) -> NDArray[np.float32]:
    """[vocab, width] embeddings: truncated SVD of the positive pointwise mutual information of tokens at most `window` apart."""
    from scipy.sparse import coo_matrix, csr_matrix
    from scipy.sparse.linalg import svds

    counts = csr_matrix((vocab, vocab), dtype=np.float64)
    flat = np.concatenate([np.asarray([*ids, *[-1] * window], dtype=np.int64) for ids in encoded])
    for distance in range(1, window + 1):
        left, right = flat[:-distance], flat[distance:]
        keep = (left >= 0) & (right >= 0)
        weight = np.full(int(keep.sum()), 1.0 / distance)
        counts = counts + coo_matrix((weight, (left[keep], right[keep])), shape=(vocab, vocab)).tocsr()
    counts = counts + counts.T
    total, rows = counts.sum(), np.asarray(counts.sum(axis=1)).ravel()
    pairs = counts.tocoo()
    information = np.log(pairs.data * total / (rows[pairs.row] * rows[pairs.col]))
    positive = csr_matrix((np.maximum(information, 0.0), (pairs.row, pairs.col)), shape=(vocab, vocab))
    rng = np.random.default_rng(seed)
    left_vectors, values, _ = svds(positive, k=width, v0=rng.standard_normal(vocab))
    # A singular vector's sign is arbitrary: fix it, so that two builds agree.
    left_vectors *= np.where(left_vectors[np.abs(left_vectors).argmax(axis=0), np.arange(width)] < 0, -1.0, 1.0)
    vectors = left_vectors * np.sqrt(values)
    unseen = np.abs(vectors).sum(axis=1) == 0
    vectors[unseen] = rng.standard_normal((int(unseen.sum()), width)) * vectors[~unseen].std()
    result: NDArray[np.float32] = (vectors / vectors.std() * 0.08).astype(np.float32)
    return result


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
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "hidden_act": "silu",
        "eos_token_id": 0,
        "pad_token_id": 0,
        "bos_token_id": None,
        "dtype": "float32",
    }


def _write_tokenizer(folder: Path, tokenizer: Any, shape: Shape) -> None:
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": END,
        "model_max_length": shape.positions,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def _pretrain(
    folder: Path,
    config: dict[str, Any],
    encoded: Sequence[Sequence[int]],
    embeddings: NDArray[np.float32],
    *,
    epochs: int,
    seed: int,
    progress: Progress,
    batch_size: int = 32,
    longest: int = 160,
) -> None:
    """Language modelling on `encoded`, cut into rows of at most `longest` tokens; writes model.safetensors."""
    import mlx.core as mx
    import mlx.nn as nn
    from mlx import optimizers
    from mlx.utils import tree_flatten
    from mlx_lm.models.llama import Model, ModelArgs

    mx.random.seed(seed)
    model = Model(ModelArgs.from_dict(config))
    model.update({"model": {"embed_tokens": {"weight": mx.array(embeddings)}}})
    batches = _reading_batches(encoded, end=config["eos_token_id"], batch_size=batch_size, longest=longest)
    total = epochs * len(batches)
    schedule = optimizers.join_schedules(
        [optimizers.linear_schedule(1e-4, 2e-3, max(1, total // 20)), optimizers.cosine_decay(2e-3, total, 1e-4)], [max(1, total // 20)]
    )
    optimizer = optimizers.AdamW(learning_rate=schedule, weight_decay=0.01)

    def loss(model: Any, tokens: Any, mask: Any) -> Any:
        entropy = nn.losses.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:])
        return (entropy * mask[:, 1:]).sum() / mask[:, 1:].sum()

    step = nn.value_and_grad(model, loss)
    rng = np.random.default_rng(seed)
    done = 0
    for _ in range(epochs):
        for index in rng.permutation(len(batches)):
            tokens, mask = batches[index]
            _, gradient = step(model, mx.array(tokens), mx.array(mask))
            gradient, _ = optimizers.clip_grad_norm(gradient, 1.0)
            optimizer.update(model, gradient)
            mx.eval(model.parameters(), optimizer.state)
            done += 1
            if done % 10 == 0 or done == total:
                progress("reading", done, total)
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())), metadata={"format": "pt"})


def _reading_batches(
    encoded: Sequence[Sequence[int]], *, end: int, batch_size: int, longest: int
) -> list[tuple[NDArray[np.int32], NDArray[np.float32]]]:
    """Rows of similar length side by side: (tokens, mask), both [batch, length], zero-padded on the right."""
    rows = [list(ids[start : start + longest - 1]) + [end] for ids in encoded for start in range(0, len(ids), longest - 1)]
    rows.sort(key=len)
    batches = []
    for start in range(0, len(rows), batch_size):
        group = rows[start : start + batch_size]
        length = max(len(row) for row in group)
        tokens = np.zeros((len(group), length), np.int32)
        mask = np.zeros((len(group), length), np.float32)
        for i, row in enumerate(group):
            tokens[i, : len(row)], mask[i, : len(row)] = row, 1.0
        batches.append((tokens, mask))
    return batches
