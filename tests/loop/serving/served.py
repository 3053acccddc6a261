"""A stand-in guard behind a real endpoint on a free port, for a test."""

import http.client
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.loop.stand_in import StandInGuard
from wizloop.backends.guard_types import Choice, Encoded
from wizloop.loop.api import Guard
from wizloop.loop.guard.judge import Judge, Limits
from wizloop.loop.guard.rendering import Renderer
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.serving.answer_log import AnswerLog
from wizloop.loop.serving.endpoint import Endpoint
from wizloop.loop.serving.judging import Judging
from wizloop.recipes import schema

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
MODEL = {"name": "a guard", "sha256": "ab", "calibration": "cd", "created": 1}
CALIBRATION = Calibration(thresholds={"request": {"direct": 0.4}}, scales={"request": {"direct": (0.5, 1.0)}})


class Fragile(StandInGuard):
    """Raises on a text with `crash` in it, as a model library might, and waits at the door while it is shut."""

    def __init__(self) -> None:
        super().__init__(0.8, [])
        self.door = threading.Event()
        self.door.set()
        self.knocked = threading.Event()

    def shut(self) -> None:
        """Let nobody in until the door is set, and forget who knocked."""
        self.door.clear()
        self.knocked.clear()

    def score(self, prompts: Sequence[Encoded], choice: Choice, *, rows: int = 128) -> NDArray[np.float64]:
        self.knocked.set()
        self.door.wait(10)
        if any(b"crash" in bytes(one.body) for one in prompts):
            raise RuntimeError("crash: it said what the text was")
        return super().score(prompts, choice, rows=rows)


class Served(NamedTuple):
    endpoint: Endpoint
    judging: Judging
    guard: Fragile
    told: list[str]
    thread: threading.Thread

    def until_waiting(self, number: int) -> None:
        """Wait until so many requests are behind the one that is being judged."""
        for _ in range(2000):
            if self.judging.waiting >= number:
                return
            time.sleep(0.005)
        raise AssertionError(f"{self.judging.waiting} requests wait")

    @property
    def port(self) -> int:
        return int(self.endpoint.server_address[1])

    def ask(self, body: Any, method: str = "POST", path: str = "/v1/moderations", **headers: str) -> tuple[int, Any]:
        """The status and the JSON of an answer; a body that is not bytes becomes JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        body = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body, {"Content-Type": "application/json", **given})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()


def guard_of(asked: StandInGuard) -> Guard:
    recipe = schema.load("demo")
    judge = Judge(asked, Renderer(""), CALIBRATION, Limits.of(recipe))
    return Guard(judge, recipe, "a guard", calibrated=True)


@contextmanager
def serving(log: AnswerLog | None = None, connections: int = 64) -> Iterator[Served]:
    """Serve until the end of the block, then stop as the command does."""
    fragile, told = Fragile(), list[str]()
    judging = Judging(guard_of(fragile), log, lambda: NOW, told.append)
    endpoint = Endpoint("127.0.0.1", 0, judging, MODEL, connections)
    threads = [threading.Thread(target=judging.run), threading.Thread(target=endpoint.serve_forever, args=(0.05,))]
    for thread in threads:
        thread.start()
    try:
        yield Served(endpoint, judging, fragile, told, threads[0])
    finally:
        judging.stop()
        endpoint.shutdown()
        for thread in threads:
            thread.join()
        judging.refuse_waiting()
        endpoint.wait(2.0)
        endpoint.server_close()
