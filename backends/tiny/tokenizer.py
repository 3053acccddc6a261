"""Train the tiny guard's tokenizer: a byte-level BPE in which the guard's own lines are cheap.

Not for other models, which bring their tokenizer.json.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

END = "<|end|>"
"""The only special token: it ends a text, pads a row, and is token 0."""
# The lines around every sample and verdict. Each is one token, with adjacent line breaks, so that a trace costs little
# more than its reasoning.
FIXED_LINES = ("Human user:", "AI assistant:", "Reasoning:", "Answers:", "Request:", "Completion:", "Response:")
_LINE = r"\n*(?:" + "|".join(FIXED_LINES) + r")(?: None)?\n*"
_WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Merges go by frequency: below this a fixed sentence would stay in pieces.
_LEAST_REPEATS = 50
_LEAST_WORDS = 4


def train_tokenizer(texts: Sequence[str], fixed_texts: Sequence[str], vocab: int) -> Any:
    """Train a tokenizers.Tokenizer of at most `vocab` tokens on `texts`.

    Each fixed line, and each sentence of four words or more in `fixed_texts`, becomes one token while the vocabulary
    has room.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    pattern = "|".join([*_sentences(fixed_texts), _LINE, _WORDS])
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=[END], initial_alphabet=alphabet, min_frequency=2, show_progress=False
    )
    repeats = max(_LEAST_REPEATS, len(texts) // 10)
    tokenizer.train_from_iterator([*texts, *(list(dict.fromkeys(fixed_texts)) * repeats)], trainer)
    return tokenizer


def write_tokenizer(folder: Path, tokenizer: Any, positions: int) -> None:
    """Write tokenizer.json and tokenizer_config.json as transformers and mlx-lm read them."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": END,
        "model_max_length": positions,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def _sentences(fixed_texts: Sequence[str]) -> list[str]:
    """Return patterns of the fixed texts' sentences, longest first: an alternation takes the first match."""
    pieces = {piece.strip() for text in fixed_texts for piece in re.split(r"(?<=[.?!:;])\s|\n", text)}
    sentences = [piece for piece in pieces if len(piece.split()) >= _LEAST_WORDS]
    sentences.sort(key=lambda sentence: (-len(sentence), sentence))
    return [r" ?" + re.sub(r"([^\w\s])", r"\\\1", sentence) + r"\n*" for sentence in sentences]
