"""Folders with a tokenizer of single bytes and a chat template, and no weights: nothing is computed in them."""

from collections.abc import Sequence
from pathlib import Path


def save(
    folder: Path,
    template: str | None = None,
    *,
    bos: str | None = None,
    eos: str | None = "<|end|>",
    special: Sequence[str] = (),
    writes_bos: bool = False,
) -> Path:
    """Write such a folder and return it. `writes_bos`: the tokenizer puts `bos` before every text, as Llama's does."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
    from tokenizers import models as kinds
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(kinds.BPE(vocab={letter: at for at, letter in enumerate(letters)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([token for token in (bos, eos, *special) if token])
    if writes_bos and bos is not None:
        raw.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, raw.token_to_id(bos))]
        )
    made = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=bos, eos_token=eos)
    made.chat_template = template
    made.save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    return folder
