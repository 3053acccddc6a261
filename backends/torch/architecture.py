"""Whether this backend can run a model that transformers reads, by its config alone."""

from pathlib import Path

from transformers import AutoConfig

from wizloop.backends.guard_types import BackendError
from wizloop.backends.torch import load as torch_load
from wizloop.backends.torch.caches import has_states


def fault(folder: Path) -> str | None:
    """Return why the model in `folder` cannot run here, or None."""
    if why := torch_load.config_fault(folder):
        return why
    try:
        has_states(AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False))
    except BackendError as error:
        return str(error)
    return None
