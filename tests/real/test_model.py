"""The real model that our code makes of a GGUF file: it knows things, in MLX and in torch alike."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import torch
from safetensors import safe_open
from transformers import AutoTokenizer

from tests.where import ROOT
from wizloop.backends import model_folder
from wizloop.backends.mlx import load as mlx_load
from wizloop.backends.torch import load as torch_load

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
ANSWER = "The capital of France is Paris."


def test_both_libraries_load_it_and_answer_alike(smollm2: Path) -> None:
    mlx = mlx_load.load(str(smollm2), None, quantise=False, fuse=False)
    asked = mlx.tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_dict=False)
    said = mlx.tokenizer.encode(ANSWER, add_special_tokens=False)
    ids = [*asked, *said]
    ours = np.array(mx.softmax(mlx.model(mx.array([ids]))[0].astype(mx.float32), axis=-1))
    loaded = torch_load.load(str(smollm2), None, quantise=False, device="cpu")
    with torch.inference_mode():
        theirs = torch.softmax(loaded.model(torch.tensor([ids])).logits[0].float(), dim=-1).numpy()
    assert np.abs(ours - theirs).max() < 1e-3
    # Its own greedy answer, so it was not only loaded but understood.
    assert [int(each) for each in ours[len(asked) - 1 : -1].argmax(-1)] == said
    assert loaded.ends == {2}


def test_a_weight_is_the_files_to_the_last_bit(smollm2: Path, smollm2_gguf: Path) -> None:
    """The reference is the gguf package's reader, and Llama's rows in transformers' order."""
    import gguf

    name = "blk.7.attn_q.weight"
    # Its own reader takes 4 s for the whole file; the offset is what the header says.
    from wizloop.backends.gguf import header

    tensor = header.read(smollm2_gguf).tensors[name]
    raw = np.fromfile(smollm2_gguf, np.uint8, tensor.size, offset=tensor.start).reshape(576, -1)
    blocks = raw.reshape(576, 18, 20)
    scale, low = (blocks[..., at : at + 2].copy().view(np.float16).astype(np.float32) for at in (0, 2))
    nibbles = np.concatenate([blocks[..., 4:] & 15, blocks[..., 4:] >> 4], axis=-1).astype(np.float32)
    rows = (scale * nibbles + low).reshape(9, 32, 2, 576).swapaxes(1, 2).reshape(576, 576)
    assert tensor.kind == gguf.GGMLQuantizationType.Q4_1
    with safe_open(smollm2 / "model.safetensors", "np") as weights:
        assert np.array_equal(weights.get_tensor("model.layers.7.self_attn.q_proj.weight"), rows)


def test_numbers_are_split_into_digits_as_it_was_trained(smollm2: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    pieces = tokenizer.convert_ids_to_tokens(tokenizer("in 2024,  75%").input_ids)
    assert pieces == ["in", "Ġ", "2", "0", "2", "4", ",", "ĠĠ", "7", "5", "%"]
    text = (ROOT / "docs" / "guards.md").read_text(encoding="utf-8")
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_its_chat_template_is_the_files(smollm2: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    text = tokenizer.apply_chat_template(QUESTION, tokenize=False, add_generation_prompt=True)
    assert text.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert text.endswith("<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n")
    assert model_folder.config_of(smollm2)["rope_theta"] == 100_000.0
