"""Connect to the server that runs a run's guard."""

from contextlib import closing
from pathlib import Path

from pydantic import SecretStr

from wizloop.backends.guard_types import BackendError
from wizloop.backends.served.completions import Endpoint
from wizloop.backends.served.guard import ServedGuard
from wizloop.backends.served.guard import Server as Reached
from wizloop.backends.served.guard import load as load_guard
from wizloop.loop import keys
from wizloop.recipes.sections import Guard, Server

LISTING_TIMEOUT_S = 10.0


def listed(server: Server) -> list[str]:
    """Return the models that the server lists. Raises BackendError."""
    with closing(Endpoint(server.base_url, _secret(), LISTING_TIMEOUT_S)) as endpoint:
        return endpoint.models()


def load(settings: Guard, base: str, adapter: Path | None) -> ServedGuard:
    """Return the base, or an adapter on it, as the server of [guard] runs it. Raises BackendError, ModelMissing."""
    server = settings.server
    if server is None:
        raise BackendError(f"guard.server is missing, which the engine {settings.engine!r} needs")
    reached = Reached(
        base_url=server.base_url,
        model=server.model,
        adapters=server.adapters,
        topk=server.topk,
        concurrency=server.concurrency,
        deadline_s=server.deadline_s,
        secret=_secret(),
        chat=settings.engine == "chat",
    )
    return load_guard(base, adapter, reached)


def _secret() -> SecretStr | None:
    key = keys.find("server")
    return None if key is None else key.secret
