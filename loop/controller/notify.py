"""Notifications through apprise, off until the recipe names an event.

The addresses are secrets: they come from the environment and are never written anywhere, even if sending fails.
"""

import logging
import os
import threading
from collections.abc import Callable, Mapping

from wizloop.recipes.sections import Notify, Occasion
from wizloop.store import given_up, reviews, spending, teacher_checks
from wizloop.store.db import Store

_SEND_SECONDS = 15.0
_BUDGET_SHARE = 0.8
_STATES: Mapping[str, Occasion] = {
    **{"done": "finished", "stopped": "stopped"},
    **{"failed": "stopped", "paused": "stopped"},
}


class Notifier:
    """Sends one run's notifications, each once; `warn` receives what could not be sent."""

    def __init__(self, wanted: Notify, name: str, warn: Callable[[str], None]) -> None:
        self.wanted, self.name, self.warn = wanted, name, warn
        self.addresses = os.environ.get(wanted.addresses, "").split()
        self._sent: set[Occasion] = set()
        self._sending: list[threading.Thread] = []
        if wanted.on and not self.addresses:
            warn(f"no notifications are sent: the recipe asks for them, but {wanted.addresses} is not set")

    def look(self, store: Store) -> None:
        """Notify of a low budget, waiting traces and a teacher that is out, once each until the condition ends."""
        if not self.addresses or not self.wanted.on:
            return
        with store.read() as db:
            money, waiting = spending.budget(db), reviews.waiting_count(db)
            out = [f"{name} is out: {why}" for name, why in given_up.newest(db).items()]
            out += teacher_checks.left_out(db).values()
        used = money.settled_micro + money.reserved_micro
        low = bool(money.cap_micro) and used >= _BUDGET_SHARE * (money.cap_micro or 0)
        spent = f"${used / 1e6:.2f} of ${(money.cap_micro or 0) / 1e6:.2f} is spent or reserved"
        self._send_if(low, "budget", spent)
        self._send_if(bool(out), "teacher", "; ".join(out))
        self._send_if(waiting >= self.wanted.waiting, "waiting", f"{waiting} traces wait for review")

    def ended(self, state: str, reason: str) -> None:
        """Notify how the run ended, and wait up to 15 seconds for each notification to be sent."""
        occasion = _STATES.get(state)
        if occasion is not None and self.addresses:
            self._send_if(True, occasion, f"{state}: {reason}")
        for thread in self._sending:
            thread.join(_SEND_SECONDS)

    def _send_if(self, condition: bool, occasion: Occasion, message: str) -> None:
        if not condition:
            self._sent.discard(occasion)
        elif occasion in self.wanted.on and occasion not in self._sent:
            self._sent.add(occasion)
            thread = threading.Thread(target=self._send, args=(message,), daemon=True)
            thread.start()
            self._sending.append(thread)

    def _send(self, message: str) -> None:
        import apprise

        # Its log contains the addresses.
        logging.getLogger("apprise").setLevel(logging.CRITICAL)
        sender = apprise.Apprise()
        valid = [sender.add(address) for address in self.addresses]
        if not all(valid):
            self.warn(f"{valid.count(False)} of the addresses in {self.wanted.addresses} are invalid")
        if any(valid) and not sender.notify(title=f"wizloop: {self.name}", body=message):
            self.warn(f"a notification could not be sent to every address: {message}")
