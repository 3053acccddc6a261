"""How a teacher behind a network is reached: its model, key, address and bounds. It reaches nothing itself."""

from dataclasses import dataclass, field
from typing import Literal

from pydantic import SecretStr

Effort = Literal["minimal", "low", "medium", "high"]


@dataclass(frozen=True)
class Reach:
    """What every such teacher is made from."""

    model: str
    told: str
    """The instruction, which is the same for every question."""
    secret: SecretStr | None = field(default=None, repr=False)
    base_url: str | None = None
    """None: the provider's own."""
    max_tokens: int = 3000
    """Of an answer, with what the model thinks before it."""
    deadline_s: float = 120.0
    """Wall-clock seconds for one question."""
    long_s: float = 600.0
    """The same for a request about a batch, which may carry megabytes."""
    effort: Effort | None = None
    """How much the model thinks before it answers; None leaves it to the provider."""
    flex: bool = False
    """Whether to ask in the provider's tier that waits for spare machines, where it has one."""


@dataclass(frozen=True)
class Model:
    """What a provider says of a model without being paid for it."""

    name: str
    lifecycle: str
    """active, deprecated, retired, or unknown where the provider does not say."""
    says: str = ""
    """What else is worth knowing, such as the day on which it ends."""
