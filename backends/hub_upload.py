"""Upload an exported folder to the Hugging Face hub. The token is huggingface_hub's own affair and is never shown."""

from pathlib import Path
from typing import NamedTuple

from wizloop.backends.guard_types import BackendError


class PushError(BackendError):
    """The hub refused or did not answer; the message says what to do."""


class Planned(NamedTuple):
    """A file that would be uploaded."""

    name: str
    size: int
    """Bytes."""


def plan(folder: Path) -> list[Planned]:
    """Return the files of an exported folder, the card first."""
    files = sorted(folder.iterdir(), key=lambda path: (path.name != "README.md", path.name))
    return [Planned(path.name, path.stat().st_size) for path in files]


def check_name(name: str) -> None:
    """Raise ValueError for what is no OWNER/NAME of the hub."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ValueError(f"{name}: not a name of the hub: {error}") from None
    if name.count("/") != 1:
        raise ValueError(f"{name}: give OWNER/NAME, the user or organization and the model")


def push(folder: Path, name: str, *, public: bool) -> str:
    """Upload a folder as one commit, into a repository that is made private unless `public`; return its address.

    A public repository that exists is only pushed to with `public`. Raises PushError.
    """
    from httpx2 import HTTPError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    disable_progress_bars()
    api = HfApi(library_name="wizloop")
    try:
        made = api.create_repo(name, private=not public, exist_ok=True)
        if not public and not api.model_info(name).private:
            raise PushError(f"{name} is public: add --public to push there, or give another name")
        api.upload_folder(folder_path=folder, repo_id=name, commit_message="Export of a guard trained with wizloop")
    except (HfHubHTTPError, LocalTokenNotFoundError, HTTPError, OSError, ValueError, RuntimeError) as error:
        if isinstance(error, PushError):
            raise
        raise PushError(f"{name}: not pushed: {_reason(error)}") from None
    return str(made)


def _reason(error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403) or type(error).__name__ == "LocalTokenNotFoundError":
        return "the hub does not accept the token: run `hf auth login`, or set HF_TOKEN to a token that may write there"
    if status is not None:
        return f"the hub answered {status}: try again"
    return f"the hub cannot be reached or the upload broke off ({type(error).__name__}): check the network"
