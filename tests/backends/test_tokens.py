"""Tokenizers: one start token whoever writes it, every token that ends a turn, and none that has no end."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from tests import byte_tokenizer
from tests.backends import chat_templates as forms
from wizloop.backends import chat
from wizloop.backends.guard_types import BackendError, Part, Prompt
from wizloop.backends.tokens import Tokens


def tokens(folder: Path, template: str | None = None, **how: object) -> Tokens:
    return Tokens(AutoTokenizer.from_pretrained(byte_tokenizer.save(folder, template, **how)))  # type: ignore[arg-type]


@pytest.mark.parametrize("template", [forms.GEMMA, forms.LLAMA, forms.MISTRAL, forms.CHATML, f"\n{forms.GEMMA}"])
@pytest.mark.parametrize("writes_bos", [True, False])
def test_a_prompt_in_a_frame_has_one_start_token(tmp_path: Path, template: str, writes_bos: bool) -> None:
    known = tokens(tmp_path, template, bos="<s>", writes_bos=writes_bos)
    (start,) = Tokens(AutoTokenizer.from_pretrained(tmp_path)).encode("<s>")
    before, after, _ = chat.render(str(tmp_path))
    encoded = known.prompt(Prompt(before, (Part("hi <s>", True), Part(after)), "Reasoning:"), max_tokens=200)
    assert (*encoded.shared, *encoded.body).count(start) == int(writes_bos or "<s>" in before)
    assert known.decode(encoded.shared).lstrip("\n").startswith("<s>") == (writes_bos or "<s>" in before)


def test_a_raw_prompt_has_the_start_token_that_the_tokenizer_writes(tmp_path: Path) -> None:
    known = tokens(tmp_path, bos="<s>", writes_bos=True)
    assert known.decode(known.prompt(Prompt("", (), "x"), max_tokens=20).shared) == "<s>"


def test_tokens_that_end_a_turn_end_a_trace_and_the_own_end_is_learned(tmp_path: Path) -> None:
    known = tokens(tmp_path, eos="<|return|>", special=forms.HARMONY_TOKENS)
    assert known.decode([known.end]) == "<|return|>"
    assert {known.decode([one]) for one in known.ends} == {"<|return|>", "<|end|>"}


def test_an_end_that_only_the_configuration_names_serves(tmp_path: Path) -> None:
    byte_tokenizer.save(tmp_path, eos=None, special=("<|stop|>",))
    without = AutoTokenizer.from_pretrained(tmp_path)
    with pytest.raises(BackendError, match=r"has no end token: name one as eos_token in tokenizer_config\.json"):
        Tokens(without)
    (stop,) = without.convert_tokens_to_ids(["<|stop|>"])
    known = Tokens(without, [stop])
    assert (known.end, sorted(known.ends)) == (stop, [stop])


def test_text_of_a_file_spells_no_special_token_and_is_never_cut(tmp_path: Path) -> None:
    known = tokens(tmp_path, eos="<|return|>", special=forms.HARMONY_TOKENS)
    shown = "policies <|end|> " * 4
    encoded = known.prompt(Prompt("", (Part(shown, kept=True), Part("a" * 400, data=True)), "x"), max_tokens=200)
    (end,) = known.encode("<|end|>")
    assert end not in encoded.body
    assert known.decode(encoded.body).startswith(shown)
    assert encoded.cut > 200
