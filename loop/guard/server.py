"""The guard of a run behind the server that its recipe names. What is asked of it is the business of the phases."""

from contextlib import closing
from pathlib import Path

from wizloop.backends.served.completions import Endpoint
from wizloop.backends.served.guard import ServedGuard
from wizloop.backends.served.guard import Server as Reached
from wizloop.backends.served.guard import load as load_guard
from wizloop.loop import keys
from wizloop.recipes.sections import Server

LOOK_S = 10.0
"""For which a look waits."""


def listed(server: Server) -> list[str]:
    """What the server lists, for one look at it. Raises BackendError."""
    key = keys.find("server")
    with closing(Endpoint(server.base_url, None if key is None else key.secret, LOOK_S)) as endpoint:
        return endpoint.models()


def load(server: Server, base: str, adapter: Path | None) -> ServedGuard:
    """The base with an adapter over it, as the server has it. Raises BackendError, ModelMissing."""
    key = keys.find("server")
    reached = Reached(
        base_url=server.base_url,
        model=server.model,
        adapters=server.adapters,
        topk=server.topk,
        concurrency=server.concurrency,
        deadline_s=server.deadline_s,
        secret=None if key is None else key.secret,
    )
    return load_guard(base, adapter, reached)
