"""A base's chat template: rendered once, in whatever form it has, and in no form with a thinking block left open."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests import byte_tokenizer
from tests.backends import chat_templates as forms
from tests.backends.gguf import made
from wizloop.backends import bounded_chat, chat, model_folder
from wizloop.backends.guard_types import BackendError, BadArtifact, ModelMissing

PUBLISHED = Path(getattr(find_spec("trl"), "origin", None) or __file__).parent / "chat_templates"
"""Templates of published models, as trl carries them."""


def rendered(folder: Path, template: str | None, **tokens: str) -> chat.Frame:
    return chat.render(str(byte_tokenizer.save(folder, template, **tokens)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("template", "before", "after"),
    [
        (forms.CHATML, "<|user|>", "<|end|><|assistant|>"),
        (forms.QWEN, "<|user|>", "<|end|><|assistant|>\n<think>\n\n</think>\n\n"),
        (forms.DEEPSEEK, "<|user|>", "<|end|><|assistant|><think>\n\n</think>\n\n"),
        (forms.GRANITE, "<|system|>Answer.<|end|><|user|>", "<|end|><|assistant|>"),
        (forms.GEMMA, "<s><start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n"),
        (forms.MISTRAL, "<s>[INST] ", "[/INST]"),
        (forms.PARTS, "user: ", "<|end|>assistant: "),
        (forms.SYSTEM, "<|system|><|end|><|user|>", "<|end|><|assistant|>"),
        (forms.EFFORT, "<|user|>", "<|end|><|assistant|>"),
    ],
)
def test_the_frame_is_what_the_template_writes_around_a_turn(
    tmp_path: Path, template: str, before: str, after: str
) -> None:
    assert rendered(tmp_path, template, bos="<s>")[:2] == (before, after)


def test_gpt_oss_is_asked_in_its_final_channel_without_much_reasoning(tmp_path: Path) -> None:
    frame = rendered(tmp_path, forms.HARMONY, eos="<|return|>")
    assert frame.after == "<|end|><|start|>assistant<|channel|>final<|message|>"
    assert "\nReasoning: low<|end|><|start|>user<|message|>" in frame.before


@pytest.mark.parametrize(("opens", "closes"), chat._THINKING)
@pytest.mark.parametrize("line", ["", "\n"])
def test_a_thinking_block_is_closed_whatever_it_is_called(tmp_path: Path, opens: str, closes: str, line: str) -> None:
    frame = rendered(tmp_path, f"{forms.TURNS}<|assistant|>{{{{ {opens + line!r} }}}}")
    assert frame.after == f"<|end|><|assistant|>{opens}\n\n{closes}\n\n"


@pytest.mark.parametrize(
    ("template", "notes"),
    [
        (forms.CHATML, ()),
        (forms.DEEPSEEK, ("it opens a thinking block, which is closed before the answer",)),
        (forms.QWEN, ("its thinking is off",)),
        (forms.PARTS, ("it wants content parts",)),
        (forms.SYSTEM, ("it wants a system turn: an empty one is given",)),
        (
            forms.HARMONY,
            (
                "it prints today's date: the date of the first start is kept",
                "an answer begins with '<|channel|>final<|message|>', as the template writes the model's own",
            ),
        ),
    ],
)
def test_what_was_decided_for_a_template_is_told(tmp_path: Path, template: str, notes: tuple[str, ...]) -> None:
    assert rendered(tmp_path, template).notes == notes


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (None, "has no chat template"),
        (forms.RAISES, r"fails \(TemplateError: no turns today\)"),
        (forms.DIVIDES, r"fails \(ZeroDivisionError: "),
        ("{% for m in messages %}", r"fails \(TemplateSyntaxError: "),
        (forms.TWICE, "shows the user's turn 2 times"),
        (forms.DROPS, "does not show the user's turn as it is"),
        (forms.ESCAPES, "does not show the user's turn as it is"),
        (forms.SHOUTS, "does not show the user's turn as it is"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_with_what_to_do(
    tmp_path: Path, template: str | None, says: str
) -> None:
    with pytest.raises(BackendError, match=rf'{says}.*: set guard.template to "raw"'):
        rendered(tmp_path, template)


def test_a_template_cannot_leave_the_sandbox(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"fails \(SecurityError: access to attribute '__class__'"):
        rendered(tmp_path, "{{ ''.__class__.__mro__[1].__subclasses__() }}" + forms.CHATML)


def test_two_renderings_of_a_template_with_the_time_differ_so_the_first_is_to_be_kept(tmp_path: Path) -> None:
    byte_tokenizer.save(tmp_path, forms.LLAMA, bos="<s>")
    first, second = chat.render(str(tmp_path)), chat.render(str(tmp_path))
    assert first.before != second.before
    assert first.before.startswith("<s><|system|>Today Date: ")


def test_a_plain_rendering_is_what_runs_without_a_kept_frame_had(tmp_path: Path) -> None:
    byte_tokenizer.save(tmp_path, forms.QWEN)
    assert chat.render_plainly(str(tmp_path)) == chat.Frame("<|user|>", "<|end|><|assistant|>\n")
    for template, says in [(forms.DROPS, "does not show"), (forms.RAISES, "fails"), (None, "has no chat template")]:
        byte_tokenizer.save(tmp_path / says, template)
        with pytest.raises(BackendError, match=says):
            chat.render_plainly(str(tmp_path / says))


def test_a_folder_that_is_no_model_or_brings_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing):
        chat.render(str(tmp_path / "none"))
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BackendError, match="its tokenizer cannot be loaded"):
        chat.render(str(tmp_path))
    (tmp_path / "config.json").write_text('{"auto_map": {}}', encoding="utf-8")
    with pytest.raises(BadArtifact, match="auto_map"):
        chat.render(str(tmp_path))


def test_the_template_of_a_gguf_file_is_read_without_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "cache"))
    file = made.llama(tmp_path / "a.gguf")
    assert chat.render(str(file)) == chat.Frame("<turn>", "<begin>")
    assert list(tmp_path.iterdir()) == [file]
    assert chat.render(str(model_folder.find(str(file)))) == chat.render(str(file))


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="trl is not installed")
def test_every_published_template_is_asked_for_an_answer_and_not_for_thinking(tmp_path: Path) -> None:
    files = [path for path in sorted(PUBLISHED.glob("*.jinja")) if not path.stem.endswith("_training")]
    assert len(files) > 30
    byte_tokenizer.save(tmp_path, bos="<s>")
    for path in files:
        (tmp_path / "chat_template.jinja").write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        frame = chat.render(str(tmp_path))
        assert all(frame.after.rfind(two[0]) <= frame.after.rfind(two[1]) for two in chat._THINKING), path.stem
        assert not frame.after.endswith("<|start|>assistant"), path.stem


ENDLESS = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a product of texts": "{{ ('a' * 100000000) * 1000 }}",
}


@pytest.mark.parametrize("template", ["nested loops", pytest.param("a product of texts", marks=pytest.mark.long)])
def test_a_template_that_never_ends_is_ended(tmp_path: Path, template: str) -> None:
    byte_tokenizer.save(tmp_path, ENDLESS[template])
    with pytest.raises(BackendError, match=f"the chat template of {tmp_path} computes without end"):
        bounded_chat.render(str(tmp_path))


@pytest.mark.long
def test_a_template_is_rendered_the_same_in_a_process_of_its_own(tmp_path: Path) -> None:
    byte_tokenizer.save(tmp_path, forms.QWEN)
    assert bounded_chat.render_plainly(str(tmp_path)) == chat.render_plainly(str(tmp_path))
    byte_tokenizer.save(tmp_path, forms.RAISES)
    with pytest.raises(BackendError, match=f"the chat template of {tmp_path} fails"):
        bounded_chat.render(str(tmp_path))
