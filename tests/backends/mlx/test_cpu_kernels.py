"""Attention and SwiGLU by NumPy have MLX's own values, and stand in only where they are asked to."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx_lm.models import activations, llama

from wizloop.backends.mlx import cpu_kernels
from wizloop.backends.mlx import guard as mlx_guard
from wizloop.backends.mlx import load as mlx_load

ROWS, HEADS, ASKED, KNOWN, SIZE = 3, 4, 5, 9, 8

THEIRS = mx.fast.scaled_dot_product_attention


def normal(*shape: int, seed: int, scale: float = 1.0) -> mx.array:
    return mx.array(np.random.default_rng(seed).normal(scale=scale, size=shape).astype(np.float32))


def same(ours: mx.array, theirs: mx.array) -> None:
    np.testing.assert_allclose(np.array(ours), np.array(theirs), atol=2e-6, rtol=2e-5)


def masks() -> dict[str, Any]:
    seen = np.random.default_rng(3).random((ROWS, 1, ASKED, KNOWN)) < 0.7
    seen[..., 0] = True
    return {
        "none": None,
        "causal": "causal",
        "of all": mx.array(seen[0, 0]),
        "of each row": mx.array(seen),
        "added": normal(ASKED, KNOWN, seed=4),
    }


@pytest.mark.parametrize("heads", [1, 2, HEADS])
@pytest.mark.parametrize("mask", masks())
@pytest.mark.parametrize("scale", [1.0, 40.0])
def test_attention(heads: int, mask: str, scale: float) -> None:
    options = {"scale": SIZE**-0.5, "mask": masks()[mask]}
    queries = normal(ROWS, HEADS, ASKED, SIZE, seed=1, scale=scale)
    keys, values = normal(ROWS, heads, KNOWN, SIZE, seed=2), normal(ROWS, heads, KNOWN, SIZE, seed=3)
    same(cpu_kernels.attention(queries, keys, values, **options), THEIRS(queries, keys, values, **options))


@pytest.mark.parametrize("shape", [(7,), (2, 3, 11), (3, 20_000)])
@pytest.mark.parametrize("scale", [1.0, 90.0])
def test_swiglu(shape: tuple[int, ...], scale: float) -> None:
    gate, x = normal(*shape, seed=1, scale=scale), normal(*shape, seed=2)
    same(cpu_kernels.swiglu(gate, x), nn.silu(gate) * x)


def test_swiglu_of_halves_of_one_product() -> None:
    gate, x = mx.split(normal(3, 4, 10, seed=1), 2, axis=-1)
    same(cpu_kernels.swiglu(gate, x), nn.silu(gate) * x)


def test_softmax_of_rows_longer_than_one_pass() -> None:
    same(cpu_kernels.softmax(normal(2, 40_000, seed=1)), mx.softmax(normal(2, 40_000, seed=1), axis=-1))
    turned = normal(3, 5, seed=1).T
    same(cpu_kernels.softmax(turned), mx.softmax(normal(3, 5, seed=1).T, axis=-1))
    assert np.array(cpu_kernels.softmax(mx.array([[0.0, np.log(3.0)]]))) == pytest.approx(np.array([[0.25, 0.75]]))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone gives memory back at once")
def test_memory_that_was_freed_is_there_for_the_next_array() -> None:
    program = (
        "import resource; from wizloop.backends.mlx import cpu_kernels; import mlx.core as mx\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def arrays():\n"
        "    for _ in range(10): mx.eval(mx.ones((4096, 4096)) + 1)\n"
        "arrays(); before = faults(); arrays(); between = faults()\n"
        "cpu_kernels.keep_memory(); arrays(); kept = faults(); arrays()\n"
        "print(between - before, faults() - kept)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    before, after = map(int, told.split())
    # 64 MB in each, in pages of 4 kB or in huge ones.
    assert after < before / 4


def test_other_numbers_than_float32_are_left_to_mlx() -> None:
    gate, x = normal(4, seed=1).astype(mx.float16), normal(4, seed=2).astype(mx.float16)
    assert cpu_kernels.swiglu(gate, x).dtype == mx.float16
    queries = normal(1, 1, 2, SIZE, seed=1).astype(mx.bfloat16)
    assert cpu_kernels.attention(queries, queries, queries, scale=1.0).dtype == mx.bfloat16


def test_attention_sinks_are_left_to_mlx() -> None:
    queries, sinks = normal(1, 1, 2, SIZE, seed=1), mx.array([5.0])
    ours = cpu_kernels.attention(queries, queries, queries, scale=1.0, sinks=sinks)
    assert np.array_equal(ours, THEIRS(queries, queries, queries, scale=1.0, sinks=sinks))


def test_mlx_lm_s_own_are_back_after_a_call_that_fails() -> None:
    seen: list[Any] = []

    def fails() -> mx.array:
        seen.extend([mx.fast.scaled_dot_product_attention, llama.swiglu])
        raise RuntimeError("stopped")

    args = llama.ModelArgs("llama", 16, 1, 32, 2, 1e-5, 20)
    with pytest.raises(RuntimeError, match="stopped"):
        cpu_kernels.faster(llama.Model(args), fails)()
    assert seen == [cpu_kernels.attention, cpu_kernels.swiglu]
    assert (mx.fast.scaled_dot_product_attention, llama.swiglu) == (THEIRS, activations.swiglu)


@pytest.mark.skipif(not mlx_load.on_cpu(), reason="MLX computes on a GPU here")
def test_a_guard_on_a_cpu_computes_by_numpy_what_its_model_computes_by_mlx(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = mlx_guard.load(str(tiny_base))._loaded
    tokens = mx.array([[5, 6, 7, 8, 9], [9, 8, 7, 6, 5]])
    by_mlx = np.array(loaded.model(tokens))
    called: list[Any] = []
    numpys = cpu_kernels.softmax

    def counted(scores: mx.array) -> mx.array:
        called.append(scores.shape)
        return numpys(scores)

    monkeypatch.setattr(cpu_kernels, "softmax", counted)
    np.testing.assert_allclose(np.array(loaded.head(loaded.hidden(tokens))), by_mlx, atol=1e-4)
    assert len(called) == len(loaded.model.layers)
