"""Whatever a library raises over the files of a model, as one error that names them."""

from collections.abc import Iterator
from contextlib import contextmanager

from wizloop.backends import devices
from wizloop.backends.guard_types import BackendError, BadArtifact

_TAKE = "take its files again from where the model is published, or use another model"


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn whatever a library raises over a model's files into BadArtifact, which begins with `what`.

    Full memory passes. The tokenizers' library panics with an exception that is no Exception.
    """
    try:
        yield
    except BaseException as error:
        if (refused := refusal(what, error)) is not None:
            raise refused from error
        raise


def refusal(what: str, error: BaseException) -> BadArtifact | None:
    """Return BadArtifact for what a library raised over a model's files; None for an error that is not theirs."""
    panic = type(error).__name__ == "PanicException"
    if isinstance(error, BackendError) or devices.out_of_memory(error) or not (isinstance(error, Exception) or panic):
        return None
    brief = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return BadArtifact(f"{what} ({brief}); {_TAKE}")
