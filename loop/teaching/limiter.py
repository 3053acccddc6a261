"""When the next call to one provider may leave, by what the provider said: no library paces by response headers.

It keeps no queue and sends nothing. Moments are seconds of a clock that only goes forward, and come in as arguments.
"""

from dataclasses import dataclass, field

from wizloop.backends.teachers.base import Limits

MOST_BACKOFF_S = 60.0
TROUBLED = 4
"""Overloads in a row after which the provider itself, and not the one call, is given time."""


@dataclass
class _Window:
    """What is left of one limit until it is filled up again; None: nothing is known to be short."""

    left: int | None = None
    reset_at: float = 0.0

    def wait(self, at: float, need: int) -> float:
        if self.left is None or at >= self.reset_at or self.left >= need:
            return 0.0
        return self.reset_at - at

    def spend(self, need: int) -> None:
        if self.left is not None:
            self.left -= need


@dataclass
class Limiter:
    """One provider's limits. Ask `wait` before a call, tell `sent` and `came` around it."""

    requests: _Window = field(default_factory=_Window)
    tokens: _Window = field(default_factory=_Window)
    parked_until: float = 0.0
    _flying: int = 0
    _flying_tokens: int = 0
    _troubles: int = 0

    def wait(self, at: float, tokens: int) -> float:
        """Seconds until a call of so many tokens may leave; 0 for at once."""
        parked = max(0.0, self.parked_until - at)
        return max(parked, self.requests.wait(at, 1), self.tokens.wait(at, tokens))

    def sent(self, tokens: int) -> None:
        """A call has left."""
        self._flying += 1
        self._flying_tokens += tokens
        self.requests.spend(1)
        self.tokens.spend(tokens)

    def came(self, tokens: int) -> None:
        """A call is over, however it ended; `tokens` as it was sent with."""
        self._flying -= 1
        self._flying_tokens -= tokens

    def learn(self, limits: Limits, at: float) -> None:
        """What an answer's headers said; call it after `came`."""
        for window, left, reset_s, flying in (
            (self.requests, limits.requests_left, limits.requests_reset_s, self._flying),
            (self.tokens, limits.tokens_left, limits.tokens_reset_s, self._flying_tokens),
        ):
            # What is under way may not be in the provider's number yet: it is taken off to be sure.
            if left is not None and reset_s is not None:
                window.left, window.reset_at = left - flying, at + reset_s

    def park(self, until: float) -> None:
        """Let nothing leave before this moment."""
        self.parked_until = max(self.parked_until, until)

    def overloaded(self, at: float, backoff_s: float) -> None:
        """One more overload in a row."""
        self._troubles += 1
        if self._troubles >= TROUBLED:
            self.park(at + backoff(backoff_s, self._troubles - TROUBLED + 1))

    def well(self) -> None:
        """The provider works."""
        self._troubles = 0


def backoff(first_s: float, tries: int) -> float:
    """Seconds to wait after so many tries (1 or more): doubled each time, up to a minute."""
    return min(MOST_BACKOFF_S, first_s * 2.0 ** min(tries - 1, 16))
