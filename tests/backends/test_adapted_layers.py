"""Which layers get an adapter."""

import pytest

from wizloop.backends.adapted_layers import is_adapted


@pytest.mark.parametrize(
    ("layer", "family", "mixture", "adapted"),
    [
        ("mlp.up_proj", "qwen3", False, True),
        ("self_attn.q_proj", "qwen3_moe", True, True),
        ("mlp.shared_expert.up_proj", "qwen3_next", True, False),
        ("mlp.gate", "qwen3_moe", True, False),
        ("block_sparse_moe.router.layer", "granitemoehybrid", True, False),
        ("linear_attn.out_proj", "qwen3_next", True, True),
        ("mamba.out_proj", "falcon_h1", False, False),
        ("mamba.in_proj", "falcon_h1", False, True),
    ],
)
def test_experts_routers_and_what_peft_refuses_have_no_adapter(
    layer: str, family: str, mixture: bool, adapted: bool
) -> None:
    assert is_adapted(layer, family, mixture=mixture) == adapted
