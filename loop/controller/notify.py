"""Messages to a person who is elsewhere, by apprise: off until the recipe names an occasion. It decides nothing.

The addresses hold secrets: they come from the environment and are written nowhere, not even where sending fails.
"""

import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from wizloop.recipes.sections import Notify, Occasion
from wizloop.store import reviews, spending
from wizloop.store.db import Store

_SEND_SECONDS = 15.0
_BUDGET_SHARE = 0.8
_STATES: Mapping[str, Occasion] = {"done": "finished", "stopped": "stopped", "failed": "stopped"}


@dataclass
class Notifier:
    """One run's messages. `warn` is told, once, of what could not be sent."""

    wanted: Notify
    name: str
    warn: Callable[[str], None]
    addresses: tuple[str, ...] = ()
    _told: set[Occasion] = field(default_factory=set)
    _sending: list[threading.Thread] = field(default_factory=list)

    @classmethod
    def of(cls, wanted: Notify, name: str, warn: Callable[[str], None]) -> "Notifier":
        """The notifier of a run, with the addresses that the environment holds."""
        addresses = tuple(os.environ.get(wanted.addresses, "").split())
        if wanted.on and not addresses:
            warn(f"nobody is notified: the recipe wants it, but {wanted.addresses} is not set in the environment")
        return cls(wanted, name, warn, addresses)

    def look(self, store: Store) -> None:
        """Tell of a budget that runs low and of traces that wait, each once until it is not so any more."""
        if not self.addresses or not self.wanted.on:
            return
        with store.read() as db:
            money, waiting = spending.budget(db), reviews.waiting_count(db)
        used = money.settled_micro + money.reserved_micro
        low = bool(money.cap_micro) and used >= _BUDGET_SHARE * (money.cap_micro or 0)
        left = f"${used / 1e6:.2f} of ${(money.cap_micro or 0) / 1e6:.2f} is spent or reserved"
        self._tell_if(low, "budget", left)
        self._tell_if(waiting >= self.wanted.waiting, "waiting", f"{waiting} traces wait for review")

    def ended(self, state: str, reason: str) -> None:
        """Tell how the run ended, and wait until everything is sent, or for 15 seconds."""
        occasion = _STATES.get(state)
        if occasion is not None and self.addresses:
            self._tell_if(True, occasion, f"{state}: {reason}")
        for thread in self._sending:
            thread.join(_SEND_SECONDS)

    def _tell_if(self, so: bool, occasion: Occasion, message: str) -> None:
        if not so:
            self._told.discard(occasion)
        elif occasion in self.wanted.on and occasion not in self._told:
            self._told.add(occasion)
            thread = threading.Thread(target=self._send, args=(message,), daemon=True)
            thread.start()
            self._sending.append(thread)

    def _send(self, message: str) -> None:
        import apprise

        # Its log names the addresses.
        logging.getLogger("apprise").setLevel(logging.CRITICAL)
        to = apprise.Apprise()
        known = [to.add(address) for address in self.addresses]
        if not all(known):
            self.warn(f"{known.count(False)} of the addresses in {self.wanted.addresses} cannot be used")
        if any(known) and not to.notify(title=f"wizloop: {self.name}", body=message):
            self.warn(f"not everybody could be notified: {message}")
