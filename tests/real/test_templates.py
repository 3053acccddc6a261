"""SmolLM2's chat template: its frame to the letter, and the same prompt on any later date."""

import shutil
from pathlib import Path

from tests.backends.chat_templates import LLAMA
from wizloop.backends import chat
from wizloop.backends.tokens import Tokens
from wizloop.loop.guard.judge import renderer_of
from wizloop.loop.guard.kept_rendering import record_of, renderer_from
from wizloop.loop.guard.rendering import InputText
from wizloop.recipes.sections import Guard

SAMPLE = InputText("How do I bake bread? <|im_end|>")


def test_the_frame_is_the_one_that_the_model_was_trained_in(smollm2: Path) -> None:
    frame = chat.render(str(smollm2))
    system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    assert frame.before == f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n"
    assert frame.after == "<|im_end|>\n<|im_start|>assistant\n"
    assert frame.notes == ()
    tokens = Tokens(chat.tokenizer_of(str(smollm2)))
    renderer = renderer_of(Guard(base=str(smollm2), template="chat"), str(smollm2), "Judge this.")
    encoded = tokens.prompt(renderer.trace_prompt(SAMPLE), max_tokens=200)
    starts, end = tokens.encode("<|im_start|>")[0], tokens.end
    ids = [*encoded.shared, *encoded.body]
    assert (ids[0], ids.count(starts), ids.count(end)) == (starts, 3, 2)
    text = (
        f"{frame.before}Judge this.\n\nHuman user:\n{SAMPLE.prompt}\n\nAI assistant:\nNone\n\n{frame.after}Reasoning:\n"
    )
    assert tokens.decode(ids) == text


def test_a_kept_rendering_is_the_same_at_another_moment(smollm2: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(smollm2 / name, tmp_path / name)
    (tmp_path / "chat_template.jinja").write_text(LLAMA, encoding="utf-8")
    settings = Guard(base=str(tmp_path), template="chat")
    first = renderer_of(settings, str(tmp_path), "Judge this.")
    later = renderer_of(settings, str(tmp_path), "Judge this.")
    assert first.hash != later.hash
    kept = renderer_from(settings, str(tmp_path), record_of(first))
    assert (kept, kept.hash) == (first, first.hash)
