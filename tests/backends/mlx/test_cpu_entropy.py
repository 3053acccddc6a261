"""The two ways to compute cross-entropy on MLX give the same losses and the same gradients."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from wizloop.backends.mlx import load as mlx_load
from wizloop.backends.mlx.cpu_entropy import by_numpy, steps

VOCAB = 50


@pytest.mark.parametrize("shape", [(1,), (17,), (3, 40)])
@pytest.mark.parametrize("scale", [1.0, 200.0])
def test_numpy_gives_mlx_s_losses_and_gradients(shape: tuple[int, ...], scale: float) -> None:
    rng = np.random.default_rng(5)
    logits = mx.array(rng.normal(scale=scale, size=(*shape, VOCAB)).astype(np.float32))
    targets = mx.array(rng.integers(VOCAB, size=shape))
    weights = mx.array(rng.random(shape).astype(np.float32))

    def weighed(entropy: Any) -> tuple[Any, Any]:
        loss, gradient = mx.value_and_grad(lambda one: (entropy(one, targets) * weights).sum())(logits)
        return np.array(loss), np.array(gradient)

    ours, theirs = weighed(by_numpy), weighed(nn.losses.cross_entropy)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5)
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-6)


def test_a_loss_by_hand() -> None:
    logits = mx.log(mx.array([[0.5, 0.25, 0.25]]))
    assert by_numpy(logits, mx.array([1])).item() == pytest.approx(1.386294, abs=1e-5)
    gradient = mx.grad(lambda one: by_numpy(one, mx.array([1])).sum())(logits)
    assert np.array(gradient).tolist() == [pytest.approx([0.5, -0.75, 0.25], abs=1e-6)]


def test_a_step_on_a_cpu_is_not_compiled_and_the_next_one_elsewhere_is() -> None:
    traced: list[int] = []

    def twice(value: mx.array) -> mx.array:
        traced.append(1)
        return value * 2

    def runs() -> int:
        compiled = mx.compile(twice)
        before = len(traced)
        mx.eval(compiled(mx.array(1.0)), compiled(mx.array(2.0)))
        return len(traced) - before

    assert runs() == 1
    with steps():
        assert runs() == (2 if mlx_load.on_cpu() else 1)
    assert runs() == 1
