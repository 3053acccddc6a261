"""A model's folder runs no code and waits for nobody, whatever its files say; what is broken in it is named at once."""

import io
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.backends.gguf import made
from wizloop.backends import chat, model_folder
from wizloop.backends.guard_types import BackendError, BadArtifact
from wizloop.backends.mlx import guard as mlx_guard
from wizloop.backends.tokens import Tokens
from wizloop.backends.torch import guard as torch_guard

LOADERS: dict[str, Any] = {"mlx": mlx_guard.load, "torch": torch_guard.load}
Load = Callable[[str], Any]
Change = Callable[[Path], object]


@pytest.fixture(params=sorted(LOADERS))
def load(request: pytest.FixtureRequest) -> Load:
    loader: Load = LOADERS[request.param]
    return loader


@pytest.fixture
def folder(tiny_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base, tmp_path / "model"))


def settings(file: str, **changed: Any) -> Change:
    """Return what changes keys of a JSON file; None removes one."""

    def change(folder: Path) -> None:
        path = folder / file
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        path.write_text(json.dumps(known | changed), encoding="utf-8")

    return change


def text(file: str, content: str | bytes) -> Change:
    def change(folder: Path) -> None:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())

    return change


OURS = {"AutoConfig": "ran.X", "AutoModelForCausalLM": "ran.X", "AutoTokenizer": [None, "ran.X"]}
CODE: dict[str, tuple[Change, str]] = {
    "auto_map of the model": (settings("config.json", auto_map=OURS), "config.json: has 'auto_map'"),
    "auto_map deeper": (settings("config.json", text_config={"auto_map": OURS}), "config.json: has 'auto_map'"),
    "model_file": (settings("config.json", model_file="ran.py"), "config.json: has 'model_file'"),
    "attention": (settings("config.json", attn_implementation="some/kernel"), "'attn_implementation' of another rep"),
    "experts": (settings("config.json", _experts_implementation={"": "a/b:c"}), "'_experts_implementation' of another"),
    "tokenizer": (
        settings("tokenizer_config.json", tokenizer_class="X", auto_map=OURS),
        "tokenizer_config.json: has 'auto_map'",
    ),
    "tokenizer's list": (settings("tokenizer_config.json", auto_map=["ran.X", None]), "has 'auto_map'"),
    "processor": (settings("processor_config.json", auto_map={"AutoProcessor": "ran.X"}), "has 'auto_map'"),
    "preprocessor": (settings("preprocessor_config.json", image={"auto_map": OURS}), "has 'auto_map'"),
    "generation": (settings("generation_config.json", custom_generate="ran"), "has 'custom_generate'"),
    "generate folder": (text("custom_generate/generate.py", "open('ran', 'w')"), "custom_generate: is code"),
    "pipelines": (settings("config.json", custom_pipelines={"x": {"impl": "ran.X"}}), "has 'custom_pipelines'"),
    "adapter": (
        settings("adapter_config.json", peft_type="LORA", base_model_name_or_path="elsewhere"),
        "adapter_config.json: names another model",
    ),
}


@pytest.mark.parametrize("where", CODE)
def test_a_folder_that_names_code_is_refused_whoever_would_consent(
    load: Load, folder: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, said = CODE[where]
    change(folder)
    (folder / "ran.py").write_text("from pathlib import Path\nPath(__file__).with_name('ran').touch()\n")
    consent = io.StringIO("y\n" * 100)
    monkeypatch.setattr(sys, "stdin", consent)
    for reader in (load, chat.tokenizer_of, model_folder.find):
        with pytest.raises(BadArtifact, match=f"^{folder}/.*{said}"):
            reader(str(folder))
    assert not (folder / "ran").exists()
    assert consent.tell() == 0


@pytest.mark.parametrize("key", ["chat_template_type", "tool_parser_type"])
def test_a_module_that_a_tokenizer_names_is_looked_for_in_the_library_alone(folder: Path, key: str) -> None:
    settings("tokenizer_config.json", **{key: "ran"})(folder)
    with pytest.raises(BadArtifact, match="its tokenizer cannot be loaded"):
        mlx_guard.load(str(folder))


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% include '/etc/passwd' %}",
        "{{ cycler.__init__.__globals__.os.system('touch ran') }}",
        "{{ messages[0].update({'role': ''}) }}",
    ],
)
def test_a_template_runs_in_the_sandbox_in_a_folder_and_in_a_file(folder: Path, template: str) -> None:
    text("chat_template.jinja", template)(folder)
    file = made.llama(folder.parent / "model.gguf", general={"tokenizer.chat_template": template})
    for base in (folder, file):
        with pytest.raises(BackendError, match="the chat template of"):
            chat.render(str(base))


BROKEN: dict[str, tuple[Change, str]] = {
    "a list": (text("config.json", "[1,2]"), "config.json: holds a list"),
    "null": (text("config.json", "null"), "config.json: holds a NoneType"),
    "deep": (text("config.json", "[" * 100_000), "config.json: is not JSON"),
    "not UTF-8": (text("config.json", b"\xff\xfe{}"), "config.json: is not JSON"),
    "a float": (settings("config.json", hidden_size=64.5), r"hidden_size is 64\.5"),
    "as a float": (settings("config.json", num_hidden_layers=1e9), "num_hidden_layers is 1000000000.0"),
    "endless": (settings("config.json", num_hidden_layers=10**9), "num_hidden_layers is 1000000000"),
    "no heads": (settings("config.json", num_attention_heads=0), "num_attention_heads is 0"),
    "a text": (settings("config.json", vocab_size="many"), "vocab_size is 'many'"),
    "negative": (settings("config.json", num_key_value_heads=-1), "num_key_value_heads is -1"),
    "true": (settings("config.json", head_dim=True), "head_dim is True"),
    "wider than its weights": (settings("config.json", hidden_size=100_000), "are not those of"),
    "more words than weights": (settings("config.json", vocab_size=8_000_000), "are not those of"),
    "a type that is none": (settings("config.json", model_type=["llama"]), "model_type is"),
    "ends in words": (settings("config.json", eos_token_id="end"), "eos_token_id is 'end'"),
    "other heads": (settings("config.json", num_attention_heads=7), "cannot be loaded as a model"),
    "fewer layers": (
        settings("config.json", num_hidden_layers=1),
        "cannot be loaded as a model|more layers than the config",
    ),
    "other width": (settings("config.json", hidden_size=96), "model"),
    "generation": (settings("generation_config.json", eos_token_id=[1, "x"]), "generation_config.json: eos_token_id"),
    "no tokenizer": (
        lambda folder: (folder / "tokenizer.json").unlink(),
        "its tokenizer cannot be loaded from tokenizer.json",
    ),
    "half a tokenizer": (
        lambda folder: os.truncate(folder / "tokenizer.json", 1000),
        "its tokenizer cannot be loaded from tokenizer.json",
    ),
    "tokenizer's list": (text("tokenizer_config.json", "[]"), "tokenizer_config.json: holds a list"),
    "a long template": (text("chat_template.jinja", "a" * 1_100_000), "chat_template.jinja: it is larger than"),
    "a long template inside": (
        settings("tokenizer_config.json", chat_template="a" * 1_100_000),
        "tokenizer_config.json: its chat_template is longer",
    ),
    "cut weights": (lambda folder: os.truncate(folder / "model.safetensors", 20_000), "cannot be loaded as a model"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_folder_is_named_within_seconds(load: Load, folder: Path, what: str) -> None:
    change, said = BROKEN[what]
    change(folder)
    began = time.monotonic()
    with pytest.raises(BackendError, match=said) as refused:
        load(str(folder))
    assert str(folder) in str(refused.value)
    assert time.monotonic() - began < 10


NO_FILES: dict[str, Change] = {
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors"])
@pytest.mark.parametrize("kind", NO_FILES)
def test_nothing_waits_for_what_is_no_file(load: Load, folder: Path, file: str, kind: str) -> None:
    path = folder / file
    path.unlink(missing_ok=True)
    NO_FILES[kind](path)
    with pytest.raises(BackendError, match=f"{file}: it is (not a regular file|a folder)|holds no config.json"):
        load(str(folder))


BOMBS = {"a choice in the rule": r"(a|aa)+$", "no rule": "("}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_tokenizer_whose_rules_never_end_is_refused_at_its_first_text(folder: Path, bomb: str) -> None:
    rule = {"type": "Split", "pattern": {"Regex": BOMBS[bomb]}, "behavior": "Isolated", "invert": False}
    settings("tokenizer.json", pre_tokenizer=rule)(folder)
    began = time.monotonic()
    with pytest.raises(BadArtifact, match="tokenizer"):
        Tokens(chat.tokenizer_of(str(folder))).encode("a" * 60 + "b")
    assert time.monotonic() - began < 10


def test_a_flipped_bit_in_an_export_is_refused_and_a_copy_of_the_hub_is_not(load: Load, folder: Path) -> None:
    from wizloop.backends import artifacts

    with artifacts.writing(folder.parent / "export", {}) as to:
        shutil.copytree(folder, to, dirs_exist_ok=True)
        (to / "README.md").write_text("# A card\n")
    export = folder.parent / "export"
    (export / "README.md").unlink()
    assert load(str(export)).count("how do I bake bread") > 0
    weights = bytearray((export / "model.safetensors").read_bytes())
    weights[-9] ^= 1
    (export / "model.safetensors").write_bytes(weights)
    with pytest.raises(BadArtifact, match=r"model.safetensors: differs from its manifest"):
        load(str(export))
