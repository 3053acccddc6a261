"""What a torch checkpoint holds: the adapter and AdamW's state, as safetensors and by the parameters' names.

transformers' own checkpoints are pickles. Order of data, dropout and rate follow from the step, which stands in the
folder's manifest (checkpoints), so that no state of a random generator is kept.
"""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from wizloop.backends.checkpoints import Checkpoints
from wizloop.backends.torch import adapter as torch_adapter

_OPTIMISER = "optimizer.safetensors"


def write(folder: Path, model: Any, optimiser: Any) -> None:
    """A checkpoint's files, of a model with LoRA layers and the AdamW over them."""
    torch_adapter.write(folder, model)
    state = {
        f"{name}/{key}": value.detach().contiguous().cpu()
        for name, parameter in _trained(model)
        for key, value in optimiser.state[parameter].items()
    }
    save_file(state, folder / _OPTIMISER)


def restore(saved: Checkpoints, model: Any, optimiser: Any, first: dict[str, Any]) -> int:
    """Put the last checkpoint, or else the adapter's weights `first`, into model and optimiser; steps that are done."""
    last = saved.last()
    if last is None:
        torch_adapter.put(first, model, saved.folder)
        return 0
    torch_adapter.read(last, model)
    state = load_file(last / _OPTIMISER)
    for name, parameter in _trained(model):
        kept = {key.split("/")[1]: value for key, value in state.items() if key.split("/")[0] == name}
        # AdamW counts its steps on the CPU.
        optimiser.state[parameter] = {
            key: value if key == "step" else value.to(parameter.device) for key, value in kept.items()
        }
    return saved.step()


def _trained(model: Any) -> list[tuple[str, Any]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
