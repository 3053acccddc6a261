"""What a training takes in memory, estimated from a base's config.json before anything is loaded.

The terms are those of backends/*/train.py: weights, what is trained with its optimizer, one pass's activations, and one
piece of logits. The counts of activations were fitted to measured peaks on MLX on a CPU (benchmarks/memory.py); where
another library or device computes, they are not measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from wizloop.backends.guard_types import LoraShape
from wizloop.backends.model_folder import NOT_WHOLE

Library = Literal["mlx", "torch"]

# Tokens of one forward pass, by library and whether a GPU computes: a larger step is done in several, whose gradients
# add up. On MLX the shared instruction is one of its rows.
MOST_TOKENS: Mapping[tuple[Library, bool], int] = {
    ("mlx", False): 1024,
    ("mlx", True): 4096,
    ("torch", False): 2048,
    ("torch", True): 16384,
}
# Learned tokens whose logits are in memory together.
PIECE = 512
# A process without a model: interpreter and libraries.
_PROCESS: Mapping[Library, float] = {"mlx": 0.25e9, "torch": 0.7e9}
# On a CPU, blocks are computed again where their activations in a pass would take more than this.
_PAYS = 0.5e9
# Numbers that a block keeps for the gradient: for each of a token's widths, of its feed-forward's widths, and of its
# attention's scores (heads times the tokens before it).
_PER_WIDTH, _PER_MLP, _PER_SCORE = 25, 16, 6
# Numbers for each logit of a piece: itself, its exponential, and its gradient.
_PER_LOGIT = 3
# For each trained weight: itself, two moments, the gradient, and its sum over passes; all in float32.
_PER_TRAINED = 5
# The same for each weight of blocks that are trained whole, fitted to measured peaks: MLX's update holds old and new
# ones side by side.
_PER_WHOLE: Mapping[Library, int] = {"mlx": 8, "torch": 4}


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a base that decide its memory."""

    layers: int
    width: int
    mlp: int
    heads: int
    kv: int
    """Width of keys, and of values."""
    vocab: int
    tied: bool

    @property
    def linear(self) -> list[tuple[int, int]]:
        """Return (inputs, outputs) of a block's linear layers."""
        up = [(self.width, self.mlp)] * 2 + [(self.mlp, self.width)]
        return [(self.width, self.width), (self.width, self.kv), (self.width, self.kv), (self.width, self.width), *up]

    @property
    def parameters(self) -> int:
        """Return the number of weights, without norms and biases."""
        return self.layers * self._block + (1 if self.tied else 2) * self.vocab * self.width

    @property
    def _block(self) -> int:
        return sum(inputs * outputs for inputs, outputs in self.linear)

    def trained(self, lora: LoraShape) -> int:
        """Return the number of weights that are trained: an adapter's, or those of whole blocks."""
        layers = self.layers if lora.layers < 0 else min(lora.layers, self.layers)
        if lora.method == "full":
            return layers * self._block
        return layers * lora.rank * sum(inputs + outputs for inputs, outputs in self.linear)


def shape_of(config: Mapping[str, Any]) -> Shape | None:
    """Return the shape that a config.json describes; None for experts and states, whose memory is not estimated."""
    of = config.get("text_config") or config
    try:
        heads, width = int(of["num_attention_heads"]), int(of["hidden_size"])
        head = int(of.get("head_dim") or width // heads)
        kv = head * int(of.get("num_key_value_heads") or heads)
        sizes = int(of["num_hidden_layers"]), width, int(of["intermediate_size"]), heads, kv, int(of["vocab_size"])
    except (KeyError, TypeError, ValueError):
        return None
    if any("expert" in key or key.startswith(("mamba", "linear_", "conv_")) for key in of):
        return None
    return Shape(*sizes, bool(of.get("tie_word_embeddings", config.get("tie_word_embeddings", False))))


def whole_fault(config: Mapping[str, Any]) -> str | None:
    """Return why all weights of a base with this config.json are not trained (method full), or None."""
    quantized = any(key.startswith("quantization") for key in config)
    mixture = any("expert" in key for key in config.get("text_config") or config)
    return NOT_WHOLE if quantized or mixture else None


def most_tokens(library: Library, *, gpu: bool, scale: float = 1.0) -> int:
    """Return the tokens of one forward pass, scaled by `scale` after memory ran out."""
    return max(1, int(MOST_TOKENS[library, gpu] * scale))


def recomputes(config: Mapping[str, Any], library: Library, *, gpu: bool) -> bool:
    """Return whether blocks are computed again for the gradient: on a GPU, and for a base too large for a CPU."""
    shape, most = shape_of(config), MOST_TOKENS[library, gpu]
    return gpu or (shape is not None and shape.layers * _block(shape, most) * most > _PAYS)


def needed(
    config: Mapping[str, Any], lora: LoraShape, library: Library, *, gpu: bool, four_bits: bool, row: int, batch: int
) -> float | None:
    """Return the bytes that a training takes at its peak, whose longest row has `row` tokens; None if unknown."""
    if (shape := shape_of(config)) is None:
        return None
    whole = lora.method == "full"
    weights = shape.parameters * (0.57 if four_bits or "quantization" in config else 2 if gpu and not whole else 4)
    most = max(row, min(most_tokens(library, gpu=gpu), row * batch))
    block = _block(shape, row) * most
    activations = shape.layers * 4 * shape.width * most + block
    if not recomputes(config, library, gpu=gpu):
        activations = shape.layers * block
    logits = 4 * _PER_LOGIT * PIECE * shape.vocab
    trained = 4 * (_PER_WHOLE[library] if whole else _PER_TRAINED) * shape.trained(lora)
    return _PROCESS[library] + weights + trained + activations + logits


def _block(shape: Shape, before: int) -> float:
    """Return the bytes that a block keeps of one token, after `before` others."""
    scores = _PER_SCORE * shape.heads * min(before, 512)
    return 4.0 * (_PER_WIDTH * shape.width + _PER_MLP * shape.mlp + scores)
