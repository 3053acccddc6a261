"""The guard that is made from nothing: the same every time, cheap in its own lines, loadable like any Llama."""

import hashlib
from pathlib import Path

import pytest

from wizloop.backends.tiny.build import Shape, build
from wizloop.backends.tiny.tokenizer import END

TEXTS = [f"the {noun} {verb} {thing}" for noun in ("cat", "sailor", "nurse") for verb in ("likes", "finds") for thing in
         ("bread", "salt", "the sea", "old maps")]  # fmt: skip
FIXED = ["Reasoning:\nNothing here speaks of harm.\nAnswers:\nRequest: unharmful", "Answers:\nRequest: harmful"]


def made(folder: Path, seed: int = 1) -> dict[str, str]:
    folder.mkdir()
    shape = Shape(vocab=800, width=32, mlp=64)
    build(folder, TEXTS, shape=shape, epochs=1, seed=seed, progress=lambda *_: None, fixed_texts=FIXED)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_the_same_texts_and_seed_give_the_same_files(tmp_path: Path) -> None:
    first, second, other = made(tmp_path / "a"), made(tmp_path / "b"), made(tmp_path / "c", seed=2)
    assert set(first) == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert first == second
    assert first["model.safetensors"] != other["model.safetensors"]


def test_mlx_lm_loads_it_and_its_own_lines_are_one_token_each(tmp_path: Path) -> None:
    from mlx_lm import load

    made(tmp_path / "a")
    model, tokenizer = load(str(tmp_path / "a"))
    assert len(model.layers) == 2
    # "Answers:", "Request:" and the word: what is the guard's own costs a token each.
    assert len(tokenizer.encode(FIXED[1], add_special_tokens=False)) == 3
    assert tokenizer.eos_token == END
    assert tokenizer.decode(tokenizer.encode("the cat likes salt\n")) == "the cat likes salt\n"


def test_too_few_texts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"guard\.base"):
        build(tmp_path, TEXTS[:19], shape=Shape(), epochs=1, seed=1, progress=lambda *_: None)
