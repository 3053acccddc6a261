"""Models that mlx-lm has, by names and in layouts that it does not read."""

from typing import Any

import mlx.core as mx
from mlx_lm.models import falcon_h1, gpt_oss
from mlx_lm.utils import _get_classes

# Text models that transformers saves alone, by the types of the whole models whose code in mlx-lm reads both.
_WHOLE = {"qwen3_5_text": "qwen3_5", "qwen3_5_moe_text": "qwen3_5_moe"}
_DENSE = ("experts.gate_up_proj", "experts.down_proj")
_EXPERTS = ("experts.gate_proj", "experts.up_proj", "experts.down_proj")


def classes(config: dict[str, Any]) -> tuple[type, type]:
    """Return the classes of a model and of its arguments, as mlx-lm's load_model asks for them."""
    kind = config["model_type"]
    model, arguments = _get_classes({**config, "model_type": _WHOLE.get(kind, kind)})
    return {gpt_oss.Model: _GptOss, falcon_h1.Model: _FalconH1}.get(model, model), arguments


class _GptOss(gpt_oss.Model):
    """gpt-oss as transformers writes it, with experts [expert, inputs, outputs]; published are 4-bit blocks."""

    def sanitize(self, weights: dict[str, mx.array]) -> dict[str, mx.array]:
        """Return the weights by mlx-lm's names."""
        turned = {
            name: mx.contiguous(weight.swapaxes(1, 2)) if name.endswith(_DENSE) else weight
            for name, weight in weights.items()
        }
        named: dict[str, mx.array] = super().sanitize(turned)
        return {f"{name}.weight" if name.endswith(_EXPERTS) else name: weight for name, weight in named.items()}


class _FalconH1(falcon_h1.Model):
    """Falcon H1 with all of its multipliers: mlx-lm 0.32.2 leaves out those of the keys and of the values."""

    def sanitize(self, weights: dict[str, mx.array]) -> dict[str, mx.array]:
        """Return the weights as mlx-lm keeps them, multiplied. What it has converted is returned as it is."""
        convolution = weights["model.layers.0.mamba.conv1d.weight"]
        if convolution.shape[-1] > convolution.shape[1]:
            factors = {"k_proj.weight": self.args.key_multiplier, "v_proj.weight": self.args.attention_in_multiplier}
            for name in [name for name in weights if name.endswith(tuple(factors))]:
                weights[name] = weights[name] * factors[name[-len("k_proj.weight") :]]
        found: dict[str, mx.array] = super().sanitize(weights)
        return found
