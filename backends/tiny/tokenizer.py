"""Trains the tiny guard's tokenizer: a byte-level BPE in which the guard's own lines are cheap.

Not for other models: they bring their tokenizer.json.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

END = "<|end|>"
"""The one special token: it ends a text, pads a row, and is token 0."""
# The lines that stand around every sample and verdict. Each is one token, so that a trace costs its reasoning and
# little
# more, and its neighbours' line breaks belong to it.
FIXED_LINES = ("Human user:", "AI assistant:", "Reasoning:", "Answers:", "Request:", "Completion:", "Response:")
_LINE = r"\n*(?:" + "|".join(FIXED_LINES) + r")(?: None)?\n*"
_WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Merges go by frequency: below this a fixed sentence would stay in pieces.
_LEAST_REPEATS = 50
_LEAST_WORDS = 4


def train_tokenizer(texts: Sequence[str], fixed_texts: Sequence[str], vocab: int) -> Any:
    """A tokenizers.Tokenizer of at most `vocab` tokens, learned from `texts`.

    Each fixed line, and each sentence of four words or more in `fixed_texts`, becomes one token while the vocabulary
    has room.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    pattern = "|".join([*_sentences(fixed_texts), _LINE, _WORDS])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
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
    """tokenizer.json and tokenizer_config.json, as transformers and mlx-lm read them."""
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
    """Patterns of the fixed texts' sentences, the longest first: an alternation takes the first that fits."""
    found = {piece.strip() for text in fixed_texts for piece in re.split(r"(?<=[.?!:;])\s|\n", text)}
    whole = sorted((one for one in found if len(one.split()) >= _LEAST_WORDS), key=lambda one: (-len(one), one))
    return [r" ?" + re.sub(r"([^\w\s])", r"\\\1", one) + r"\n*" for one in whole]
