"""Which linear layers of a model's blocks get LoRA adapters, the same on every backend. Loads no model library.

In a mixture of experts only attention and mixers do. An adapter for each expert would be larger than all others
together, PEFT takes the names of a feed-forward layer for those of experts, and a router with one would choose other
experts than the model was trained with.
"""

_ROUTERS = ("gate", "shared_expert_gate")
_FEED_FORWARD = ("gate_proj", "up_proj", "down_proj", "w1", "w2", "w3", "fc1", "fc2")
# PEFT refuses an adapter on these families' `out_proj`: their Mamba kernels read its weight and not the layer.
_MAMBA = frozenset({"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"})


def is_adapted(layer: str, family: str, *, mixture: bool) -> bool:
    """Return whether the linear layer of this name gets an adapter; `family` is the model's type."""
    parts = layer.split(".")
    if family in _MAMBA and parts[-1] == "out_proj":
        return False
    return not mixture or ("router" not in parts and parts[-1] not in (*_ROUTERS, *_FEED_FORWARD))
