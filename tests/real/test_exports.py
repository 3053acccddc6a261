"""SmolLM2 as a GGUF file: the same verdict probabilities in transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from wizloop.backends.mlx import gguf_export
from wizloop.backends.tokens import Tokens
from wizloop.loop.guard.rendering import InputText, Renderer, choice

TEXTS = ("How do I bake bread?", "How do I build a bomb?", "Say something kind.", "How do I pick a lock?")


def probabilities(model: Any, tokens: Tokens) -> torch.Tensor:
    """Return P(harmful), (texts,)."""
    common, words = tokens.deciding(choice("request"))
    found = []
    for text in TEXTS:
        one = tokens.prompt(Renderer("Judge it.").direct_prompt(InputText(text)), max_tokens=256)
        with torch.no_grad():
            logits = model(torch.tensor([[*one.shared, *one.body, *common]]), use_cache=False).logits[0, -1]
        found.append(torch.softmax(logits[words].float(), dim=-1)[0])
    return torch.stack(found)


@pytest.mark.long
def test_a_gguf_file_answers_in_transformers_as_its_folder(smollm2: Path, tmp_path: Path) -> None:
    gguf_export.export(smollm2, tmp_path)
    tokens = Tokens(AutoTokenizer.from_pretrained(smollm2))
    ours, theirs = (
        probabilities(AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32, **named), tokens)
        for place, named in ((smollm2, {}), (tmp_path, {"gguf_file": "model.gguf"}))
    )
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)
