"""Time the next call to a provider by its rate-limit headers: no library paces calls by response headers.

Keeps no queue and sends nothing. Times are seconds of a monotonic clock, passed as arguments.
"""

from dataclasses import dataclass, field

from wizloop.backends.teachers.base import Limits

MAX_BACKOFF_S = 60.0
OVERLOADS = 4
"""Overloads in a row after which all calls wait, and not only the failed one."""


@dataclass
class _Window:
    """What is left of one limit until it resets; None: no shortage is known."""

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
    """One provider's limits. Call `wait` before a call, `sent` and `returned` around it."""

    requests: _Window = field(default_factory=_Window)
    tokens: _Window = field(default_factory=_Window)
    parked_until: float = 0.0
    _in_flight: int = 0
    _tokens_in_flight: int = 0
    _overloads: int = 0

    def wait(self, at: float, tokens: int) -> float:
        """Return the seconds until a call of this many tokens may be sent; 0 for now."""
        parked = max(0.0, self.parked_until - at)
        return max(parked, self.requests.wait(at, 1), self.tokens.wait(at, tokens))

    def sent(self, tokens: int) -> None:
        """Count a call that is sent."""
        self._in_flight += 1
        self._tokens_in_flight += tokens
        self.requests.spend(1)
        self.tokens.spend(tokens)

    def returned(self, tokens: int) -> None:
        """Count a call that is over, however it ended; `tokens` as given to `sent`."""
        self._in_flight -= 1
        self._tokens_in_flight -= tokens

    def learn(self, limits: Limits, at: float) -> None:
        """Apply an answer's headers; call it after `returned`."""
        for window, left, reset_s, in_flight in (
            (self.requests, limits.requests_left, limits.requests_reset_s, self._in_flight),
            (self.tokens, limits.tokens_left, limits.tokens_reset_s, self._tokens_in_flight),
        ):
            # The provider may not have counted the calls in flight yet: they are subtracted to be safe.
            if left is not None and reset_s is not None:
                window.left, window.reset_at = left - in_flight, at + reset_s

    def park(self, until: float) -> None:
        """Send nothing before this time."""
        self.parked_until = max(self.parked_until, until)

    def overloaded(self, at: float, backoff_s: float) -> None:
        """Count one more overload in a row."""
        self._overloads += 1
        if self._overloads >= OVERLOADS:
            self.park(at + backoff(backoff_s, self._overloads - OVERLOADS + 1))

    def recovered(self) -> None:
        """Reset the count of overloads."""
        self._overloads = 0


def backoff(first_s: float, tries: int) -> float:
    """Return the seconds to wait after this many tries (1 or more): doubled each time, up to a minute."""
    return min(MAX_BACKOFF_S, first_s * 2.0 ** min(tries - 1, 16))
