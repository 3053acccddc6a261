"""Messages to a person elsewhere: which are sent, how often, and that no address is written anywhere."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from wizloop.loop.controller.notify import Notifier
from wizloop.recipes.sections import Notify
from wizloop.store import given_up, teacher_checks
from wizloop.store.checked_teacher import Checked
from wizloop.store.db import Store


@pytest.fixture
def phone() -> Iterator[tuple[str, list[str]]]:
    """An address, and the messages that come there."""
    got: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            got.append(f"{body['title']}: {body['message']}")
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"json://127.0.0.1:{server.server_port}/", got
        server.shutdown()


# apprise 2.2 looks for a module that Python 3.13 has not.
pytestmark = pytest.mark.filterwarnings("ignore:.imghdr. is deprecated:DeprecationWarning")


def notifier(monkeypatch: pytest.MonkeyPatch, address: str, warn: Callable[[str], None], **wanted: object) -> Notifier:
    monkeypatch.setenv("WIZLOOP_NOTIFY", address)
    return Notifier(Notify.model_validate(wanted), "demo", warn)


def test_each_occasion_that_is_wanted_is_told_once(
    after_a_night: Path, phone: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, got = phone
    warned: list[str] = []
    ours = notifier(monkeypatch, address, warned.append, on=("waiting", "finished"), waiting=2)
    with Store.open(after_a_night, readonly=True) as store:
        for _ in range(3):
            ours.look(store)
    ours.ended("done", "all rounds are done")
    assert sorted(got) == ["wizloop: demo: 2 traces wait for review", "wizloop: demo: done: all rounds are done"]
    assert warned == []


def test_a_teacher_that_is_out_is_told_once_with_the_providers_sentence(
    after_a_night: Path, phone: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, got = phone
    ours = notifier(monkeypatch, address, pytest.fail, on=("teacher", "stopped"))
    with Store.open(after_a_night) as store:
        ours.look(store)
        with store.write() as db:
            given_up.note(db, 1, "claude", "its account cannot be used (Your credit balance is too low)")
        for _ in range(3):
            ours.look(store)
    ours.ended("paused", "2 of 2 samples have no teacher")
    assert sorted(got) == [
        "wizloop: demo: claude is out: its account cannot be used (Your credit balance is too low)",
        "wizloop: demo: paused: 2 of 2 samples have no teacher",
    ]


def test_a_teacher_that_is_left_out_is_told_with_its_figures(
    after_a_night: Path, phone: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, got = phone
    ours = notifier(monkeypatch, address, pytest.fail, on=("teacher",))
    figures = (60, 60, 0.5, 0.44, 0.58)
    with Store.open(after_a_night) as store:
        with store.write() as db:
            teacher_checks.keep(db, Checked("policy", "m", "2026-12-01", *figures, left_out=True, bound=0.75))
        ours.look(store)
    ours.ended("paused", "no teacher is left")
    assert got == [
        "wizloop: demo: policy: 50 % of 60 right (44-58), checked 2026-12-01; left out: below 75 %",
    ]


def test_it_is_off_by_default(
    after_a_night: Path, phone: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, got = phone
    ours = notifier(monkeypatch, address, got.append)
    with Store.open(after_a_night, readonly=True) as store:
        ours.look(store)
    ours.ended("failed", "the disk is full")
    assert got == []


def test_what_cannot_be_sent_is_a_warning_without_the_address(
    after_a_night: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    ours = notifier(monkeypatch, "json://127.0.0.1:9/secret nonsense", warned.append, on=("stopped",))
    ours.ended("stopped", "by you")
    assert len(warned) == 2
    assert not any("secret" in one or "nonsense" in one for one in warned)


def test_no_address_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    warned: list[str] = []
    notifier(monkeypatch, " ", warned.append, on=("budget",))
    assert warned == [
        "no notifications are sent: the recipe asks for them, but WIZLOOP_NOTIFY is not set",
    ]
