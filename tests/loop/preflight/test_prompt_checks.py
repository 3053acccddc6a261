"""The base's template and tokenizer in a dry run: what was decided for them, or what is wrong and what to do."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests import byte_tokenizer
from tests.backends import chat_templates as forms
from tests.backends.gguf import made
from wizloop.loop.cli import app
from wizloop.loop.preflight import Check

RECIPE = """
name = "mine"
source = "demo"
[guard]
base = "{base}"
template = "{template}"
"""


def template_check(base: str | Path, template: str, folder: Path) -> Check | None:
    """Return the check of the template in a dry run of a recipe on this base; None without one."""
    path = folder / "mine.toml"
    path.write_text(RECIPE.format(base=base, template=template), encoding="utf-8")
    asked = ["start", "--dry-run", "--json", str(path), "-w", str(folder / "runs")]
    found = json.loads(CliRunner().invoke(app, asked).stdout)
    of_template = [Check(**one) for one in found["checks"] if one["name"] == "template"]
    assert found["ok"] == all(one["ok"] for one in found["checks"])
    return of_template[0] if of_template else None


@pytest.mark.parametrize(
    ("template", "setting", "found"),
    [
        (forms.CHATML, "chat", "chat: the turn as it is"),
        (forms.DEEPSEEK, "chat", "chat: it opens a thinking block, which is closed before the answer"),
        (forms.RAISES, "raw", "raw: a sample stands in no turn"),
        (None, "raw", "raw: a sample stands in no turn"),
    ],
)
def test_what_is_decided_for_a_template_is_told(tmp_path: Path, template: str | None, setting: str, found: str) -> None:
    base = byte_tokenizer.save(tmp_path / "base", template)
    assert template_check(base, setting, tmp_path) == Check("template", True, found)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (None, 'has no chat template: set guard.template to "raw"'),
        (forms.RAISES, 'fails (TemplateError: no turns today): set guard.template to "raw"'),
        (forms.TWICE, 'shows the user\'s turn 2 times: set guard.template to "raw"'),
        (forms.DROPS, 'does not show the user\'s turn as it is: set guard.template to "raw"'),
    ],
)
def test_a_template_that_cannot_be_used_is_missing_with_what_to_do(
    tmp_path: Path, template: str | None, says: str
) -> None:
    check = template_check(byte_tokenizer.save(tmp_path / "base", template), "chat", tmp_path)
    assert check is not None
    assert not check.ok
    assert says in check.found


@pytest.mark.parametrize("setting", ["raw", "chat"])
def test_a_tokenizer_without_an_end_token_is_missing_unless_the_configuration_names_one(
    tmp_path: Path, setting: str
) -> None:
    base = byte_tokenizer.save(tmp_path / "base", forms.CHATML, eos=None, special=("<|stop|>",))
    check = template_check(base, setting, tmp_path)
    assert check is not None
    assert not check.ok
    assert "has no end token: name one as eos_token in tokenizer_config.json" in check.found
    for named in ("256", "[256]"):
        (base / "config.json").write_text(f'{{"model_type": "llama", "eos_token_id": {named}}}', encoding="utf-8")
        check = template_check(base, setting, tmp_path)
        assert check is not None
        assert check.ok


def test_the_template_of_a_gguf_file_is_checked_without_making_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "cache"))
    file = made.llama(tmp_path / "a.gguf")
    assert template_check(file, "chat", tmp_path) == Check("template", True, "chat: the turn as it is")
    file = made.llama(tmp_path / "b.gguf", general={"tokenizer.chat_template": forms.TWICE})
    check = template_check(file, "chat", tmp_path)
    assert check is not None
    assert "shows the user's turn 2 times" in check.found
    (tmp_path / "c.gguf").write_bytes(b"GGUF" + bytes(60))
    check = template_check(tmp_path / "c.gguf", "chat", tmp_path)
    assert check is not None
    assert not check.ok
    assert not (tmp_path / "cache").exists()


def test_the_tiny_guard_has_no_chat_template_and_a_base_elsewhere_is_read_at_the_start(tmp_path: Path) -> None:
    assert template_check("tiny", "raw", tmp_path) is None
    check = template_check("tiny", "chat", tmp_path)
    assert check is not None
    assert (check.ok, check.found) == (False, 'the tiny guard has no chat template: set guard.template to "raw"')
    elsewhere = template_check("nobody/nothing-of-this-name", "chat", tmp_path)
    assert elsewhere is not None
    assert elsewhere.found == "chat: the base is not on this disk, its tokenizer is read at the start"
