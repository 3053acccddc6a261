"""Texts of many connections, judged in batches on the one thread that may use the guard."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import datetime
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from wizloop.loop.api import Guard, Verdict
    from wizloop.loop.serving.answer_log import AnswerLog

BATCH = 32
"""Texts from which a batch takes no further request."""


class NotJudged(Exception):
    """The guard has no answer: it failed, or the server is stopping."""


class _Asked(NamedTuple):
    texts: Sequence[str]
    answer: "Future[list[Verdict]]"


class Judging:
    """A queue in front of a guard. `ask` is for any thread, `run` for the one that loaded the guard."""

    def __init__(
        self, guard: "Guard", log: "AnswerLog | None", clock: Callable[[], datetime], tell: Callable[[str], None]
    ) -> None:
        self._guard, self._log, self._clock, self._tell = guard, log, clock, tell
        # Its `put` is reentrant, so that a signal's handler may call it. Connections bound its length.
        self._waiting: SimpleQueue[_Asked | None] = SimpleQueue()
        self._told: set[str] = set()
        self.declared = guard.declared
        """The label words of its verdicts."""
        self.stopping = False
        self.judged = self.unlogged = 0

    @property
    def waiting(self) -> int:
        """Number of requests that wait for the guard."""
        return self._waiting.qsize()

    def ask(self, texts: Sequence[str]) -> "list[Verdict]":
        """Return the verdicts on texts, once it is their turn. Raises NotJudged."""
        asked = _Asked(texts, Future())
        if self.stopping:
            raise NotJudged("the server is stopping")
        self._waiting.put(asked)
        return asked.answer.result()

    def stop(self) -> None:
        """End `run` after its batch; safe in a signal's handler."""
        self.stopping = True
        self._waiting.put(None)

    def run(self) -> None:
        """Judge what is asked until `stop`; then whoever waits is told."""
        while not self.stopping:
            self._judge(self._next_batch())
        self.refuse_waiting()

    def refuse_waiting(self) -> None:
        """Tell those who wait that the server is stopping."""
        while not self._waiting.empty():
            if (asked := self._taken()) is not None:
                asked.answer.set_exception(NotJudged("the server is stopping"))

    def _next_batch(self) -> list[_Asked]:
        """Wait for a request, and return it with those that wait behind it; nothing once it is stopping."""
        first = self._waiting.get()
        batch = [] if first is None else [first]
        while batch and sum(len(one.texts) for one in batch) < BATCH and (more := self._taken()) is not None:
            batch.append(more)
        return batch

    def _taken(self) -> _Asked | None:
        try:
            return self._waiting.get_nowait()
        except Empty:
            return None

    def _judge(self, batch: Sequence[_Asked]) -> None:
        texts = [text for asked in batch for text in asked.texts]
        try:
            verdicts = list(self._guard.judge(texts, traces=False))
        # Whatever a model library raises, the next request may be fine.
        except Exception as error:
            if len(batch) > 1:
                for asked in batch:
                    self._judge([asked])
                return
            self._tell_once(f"the guard failed on a request: {type(error).__name__}")
            batch[0].answer.set_exception(NotJudged("the guard failed on this request"))
            return
        self.judged += len(texts)
        self._write(texts, verdicts)
        left = iter(verdicts)
        for asked in batch:
            asked.answer.set_result([next(left) for _ in asked.texts])

    def _write(self, texts: Sequence[str], verdicts: "Sequence[Verdict]") -> None:
        """Log verdicts. They are answered even if the log's disk is full."""
        if self._log is None:
            return
        try:
            self._log.add(texts, verdicts, self._clock())
        except OSError as error:
            self.unlogged += len(texts)
            self._tell_once(f"{self._log.path}: cannot be written, texts are judged without it: {error.strerror}")

    def _tell_once(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            self._tell(message)
