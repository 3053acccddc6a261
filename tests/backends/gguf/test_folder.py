"""The folder of a GGUF file: made once, whole or missing, and refused in words where it cannot be made."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import mlx.core as mx
import numpy as np
import pytest
from transformers import AutoTokenizer

from tests.backends.gguf import made
from wizloop.backends import artifacts, base_identity, model_folder
from wizloop.backends.gguf import folder, header, weights
from wizloop.backends.guard_types import BadArtifact, ModelMissing

KIND = gguf.GGMLQuantizationType


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of GGUF files' folders, empty."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "hf"))
    return tmp_path / "hf" / "wizloop-gguf"


def test_the_folder_is_made_once_and_then_found(cache: Path, tmp_path: Path) -> None:
    path = made.llama(tmp_path / "model.gguf")
    found = model_folder.find(str(path))
    assert found.parent == cache
    made_at = found.stat().st_mtime_ns
    renamed = path.rename(tmp_path / "Renamed.GGUF")
    assert model_folder.find(str(renamed)) == found
    assert found.stat().st_mtime_ns == made_at
    assert artifacts.about(found)["gguf"] == "model.gguf"


def test_another_file_of_the_same_name_is_another_folder(cache: Path, tmp_path: Path) -> None:
    first = model_folder.find(str(made.llama(tmp_path / "model.gguf")))
    second = model_folder.find(str(made.llama(tmp_path / "model.gguf", seed=1)))
    weight = "model.layers.0.mlp.up_proj.weight"
    both = [_weights(each / "model.safetensors")[weight] for each in (first, second)]
    assert not mx.allclose(both[0], both[1])


def _weights(path: Path) -> dict[str, mx.array]:
    found: Any = mx.load(str(path))
    return dict(found)


def test_a_damaged_folder_is_made_again(cache: Path, tmp_path: Path) -> None:
    path = made.llama(tmp_path / "model.gguf")
    found = model_folder.find(str(path))
    whole = (found / "model.safetensors").read_bytes()
    (found / "model.safetensors").write_bytes(whole[:-1] + b"\0")
    (cache / f"tmp-{found.name}-1").mkdir()
    folder._cached.cache_clear()
    assert model_folder.find(str(path)) == found
    assert (found / "model.safetensors").read_bytes() == whole
    assert [each.name for each in cache.iterdir() if each.is_dir()] == [found.name]


def test_two_processes_at_once_make_one_folder(cache: Path, tmp_path: Path) -> None:
    path = made.llama(tmp_path / "model.gguf")
    program = (
        "import sys; from wizloop.backends import model_folder; found = model_folder.find(sys.argv[1]); "
        "print(found, found.stat().st_mtime_ns)"
    )
    environment = os.environ | {"HF_HOME": str(cache.parent)}
    both = [
        subprocess.Popen([sys.executable, "-P", "-c", program, str(path)], stdout=subprocess.PIPE, env=environment)
        for _ in range(2)
    ]
    said = [each.communicate(timeout=300)[0] for each in both]
    # Each says when its folder was made: there was only one.
    assert said[0] == said[1] != b""
    assert [each.name for each in cache.iterdir() if each.is_dir()] == [said[0].decode().split()[0].split("/")[-1]]


def test_a_check_writes_nothing(cache: Path, tmp_path: Path) -> None:
    described, fault = folder.check(made.llama(tmp_path / "model.gguf", kind=KIND.Q8_0))
    assert (described, fault) == ("a GGUF file of a llama with 2 layers, in F32, Q8_0", None)
    assert not cache.parent.exists()


def test_a_full_disk_is_told_before_the_start(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made.llama(tmp_path / "model.gguf")
    monkeypatch.setattr(weights, "size", lambda header: 1 << 60)
    assert "make room, or set HF_HOME" in str(folder.check(path)[1])
    model_folder.find(str(path))
    assert folder.check(path)[1] is None


@pytest.mark.parametrize(
    ("kind", "norm", "expected"),
    [
        (KIND.F32, 0.5, mx.float32),
        (KIND.F16, 0.5, mx.float16),
        (KIND.BF16, 0.5, mx.bfloat16),
        (KIND.F16, 0.3, mx.float32),
        (KIND.BF16, 0.3, mx.float32),
        (KIND.Q4_0, 0.5, mx.float32),
        (KIND.Q8_0, 0.5, mx.float32),
    ],
)
def test_weights_keep_the_narrowest_format_that_loses_nothing(
    kind: KIND, norm: float, expected: mx.Dtype, tmp_path: Path
) -> None:
    path, to = made.llama(tmp_path / "model.gguf", kind=kind), tmp_path / "folder"
    path = _with_norms(path, norm)
    to.mkdir()
    folder.convert(path, to)
    found = _weights(to / "model.safetensors")
    assert {values.dtype for values in found.values()} == {expected}
    read = header.read(path)
    up = np.array(found["model.layers.1.mlp.up_proj.weight"].astype(mx.float32))
    assert np.array_equal(up, weights.values(read, read.tensors["blk.1.ffn_up.weight"]))
    assert np.array_equal(np.array(found["model.norm.weight"].astype(mx.float32)), np.full(64, norm, np.float32))


def _with_norms(path: Path, value: float) -> Path:
    """Set every norm of the file to a value."""
    data = bytearray(path.read_bytes())
    for name, each in header.read(path).tensors.items():
        if "norm" in name:
            data[each.start : each.start + each.size] = np.full(each.shape, value, np.float32).tobytes()
    path.write_bytes(data)
    return path


def test_a_large_model_is_written_in_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, whole, parts = made.llama(tmp_path / "model.gguf"), tmp_path / "whole", tmp_path / "parts"
    for to, size in ((whole, weights.SHARD_BYTES), (parts, 60_000)):
        to.mkdir()
        monkeypatch.setattr(weights, "SHARD_BYTES", size)
        folder.convert(path, to)
    shards = sorted(parts.glob("*.safetensors"))
    assert len(shards) > 2
    assert all(each.stat().st_size < 70_000 for each in shards)
    together = {name: values for each in shards for name, values in _weights(each).items()}
    expected = _weights(whole / "model.safetensors")
    assert together.keys() == expected.keys()
    assert all(mx.array_equal(together[name], values) for name, values in expected.items())
    from wizloop.backends.mlx import load as mlx_load

    assert mlx_load.load(str(parts), None, quantise=False, fuse=False).config["model_type"] == "llama"


def test_the_tokenizer_and_template_are_the_files(tmp_path: Path) -> None:
    path, to = made.llama(tmp_path / "model.gguf"), tmp_path / "folder"
    to.mkdir()
    folder.convert(path, to)
    tokenizer = AutoTokenizer.from_pretrained(to)
    assert tokenizer.convert_ids_to_tokens(tokenizer("hello the 12<turn>").input_ids) == [
        *("hello", "Ġt", "he", "Ġ", "12", "<turn>")
    ]
    assert (tokenizer.eos_token, tokenizer.bos_token, tokenizer.chat_template) == ("<end>", "<begin>", made.TEMPLATE)
    assert model_folder.config_of(to)["eos_token_id"] == [0, 2]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "falcon": ({"architecture": "falcon"}, "architecture 'falcon' cannot be read, only llama.*hub name"),
    "a mixture": ({"keys": made.SIZES | made.HEADS | {"expert_count": 8}}, "a mixture of experts cannot be read"),
    "a part": ({"general": {"split.count": 3}}, "one of several parts .*--merge"),
    "no layers": ({"keys": made.HEADS | made.SIZES | {"block_count": 0}}, "block_count is 0"),
    "endless layers": ({"keys": made.HEADS | made.SIZES | {"block_count": 1 << 30}}, "claims 1,073,741,824 layers"),
    "more layers": ({"keys": made.HEADS | made.SIZES | {"block_count": 3}}, "3 layers do not hold the same weights"),
    "fewer layers": ({"keys": made.HEADS | made.SIZES | {"block_count": 1}}, "are not llama's, the first is blk.1"),
    "a width in words": ({"keys": made.HEADS | made.SIZES | {"embedding_length": "wide"}}, "embedding_length is wide"),
    "an odd rotation": (
        {"keys": made.HEADS | made.SIZES | {"rope.scaling.type": "longrope", "rope.scaling.factor": 2.0}},
        "rotary scaling 'longrope' cannot be read",
    ),
    "unknown splits": ({"general": {"tokenizer.ggml.pre": "poro-chat"}}, "how its tokenizer splits .*'poro-chat'"),
    "no splits": ({"general": {"tokenizer.ggml.pre": None}}, "how its tokenizer splits a text .None."),
    "WordPiece": ({"general": {"tokenizer.ggml.model": "bert"}}, "its tokenizer 'bert' cannot be rebuilt"),
    "no vocabulary": ({"general": {"tokenizer.ggml.tokens": None}}, "has no tokenizer.ggml.tokens"),
    "a token twice": ({"general": {"tokenizer.ggml.tokens": ["a", "a"]}}, "eos_token is|names a token twice"),
    "an end out of range": ({"general": {"tokenizer.ggml.eos_token_id": 4000}}, "its eos_token is 4000"),
    "merges of nothing": ({"general": {"tokenizer.ggml.merges": ["q zz"]}}, "merges 'q zz', which are not tokens"),
    "types for some": ({"general": {"tokenizer.ggml.token_type": [1, 1]}}, "other numbers of tokens"),
    "more tokens": (
        {"general": {"tokenizer.ggml.tokens": [*made.TOKENS, "extra"], "tokenizer.ggml.token_type": None}},
        "tokens and embeddings of",
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_read_is_refused_in_words(why: str, cache: Path, tmp_path: Path) -> None:
    changed, message = REFUSED[why]
    path = made.llama(tmp_path / "model.gguf", **changed)
    with pytest.raises(BadArtifact, match=f"model.gguf: .*({message})"):
        folder.check(path)
    with pytest.raises(BadArtifact, match=message):
        model_folder.find(str(path))
    assert not [each for each in cache.glob("*") if each.is_dir()]


def test_a_format_that_gguf_cannot_unpack_is_refused(tmp_path: Path) -> None:
    path = made.llama(tmp_path / "model.gguf")
    data = bytearray(path.read_bytes())
    at = data.index(b"blk.0.ffn_up.weight") + len("blk.0.ffn_up.weight") + 4 + 16
    data[at] = KIND.I32
    path.write_bytes(data)
    with pytest.raises(BadArtifact, match="holds weights in I32, which cannot be unpacked"):
        folder.check(path)


def test_another_kind_of_file_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"\0")
    with pytest.raises(ModelMissing, match=r"of files only GGUF is read"):
        model_folder.find(str(path))


def test_an_adapter_names_its_file_without_the_path(cache: Path, tmp_path: Path) -> None:
    path = made.llama(tmp_path / "model.gguf")
    base_identity.name_base(str(path), tmp_path)
    named = (tmp_path / "base.json").read_text(encoding="utf-8")
    assert f'"base": "{path.name}"' in named
    assert artifacts.verify(model_folder.find(str(path))) in named
    assert str(tmp_path) not in named
