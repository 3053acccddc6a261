"""The wire of a server that completes text: what is sent, and a reply's text and log-probabilities whatever their form.

It speaks OpenAI's completions as vLLM, llama.cpp and mlx_lm.server do. It knows no guard, and nothing of verdicts.
"""

import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from wizloop.backends.guard_types import BackendError
from wizloop.backends.http.exchange import Exchange, dig
from wizloop.backends.http.transport import Line

WAITS_S = (0.5, 2.0, 8.0)
"""Before the second try and those after it, of a request that broke off or met an overloaded server."""
_TOKEN_ID = "token_id:"
_LIMITED, _BUSY = 429, (503,)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token that was likely at a position: its id, where the server tells it, or else its text."""

    id: int | None
    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Position:
    """One token of a reply: which it was, where that is told, and the likeliest ones."""

    chosen: Candidate | None
    top: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """One completion. `positions` is empty where the server gives no log-probabilities."""

    text: str
    stop: str
    """"stop" or "length"."""
    positions: tuple[Position, ...]
    prompt_tokens: int | None


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a server wants to be asked."""

    ids: bool
    """Whether a prompt is sent as token ids; else as text, which the server encodes once more."""
    counts: bool
    """Whether `logprobs` is a count; else it is a yes, with the count in `top_logprobs`."""
    k: int
    """Log-probabilities at each token; 0: it gives none."""

    def asking(self) -> dict[str, Any]:
        """The part of a request that asks for log-probabilities."""
        if self.k == 0:
            return {}
        if not self.counts:
            return {"logprobs": True, "top_logprobs": self.k}
        return {"logprobs": self.k, "return_tokens_as_token_ids": True} if self.ids else {"logprobs": self.k}


# vLLM takes ids and 20; others read text; mlx_lm.server wants a yes and gives 11; OpenAI's own limit is 5.
_KNOWN = (Dialect(True, True, 20), Dialect(False, True, 20), Dialect(False, False, 11), Dialect(False, True, 5))


class Endpoint:
    """One server. Any number of threads may ask it."""

    def __init__(self, base_url: str, secret: SecretStr | None, deadline_s: float) -> None:
        self.base_url = base_url.rstrip("/")
        self._line = Line(self.base_url, secret)
        self._headers = {} if secret is None else {"authorization": f"Bearer {secret.get_secret_value()}"}
        self._deadline_s = deadline_s

    def close(self) -> None:
        """End its connections."""
        self._line.client.close()

    def complete(self, body: Mapping[str, Any]) -> Reply:
        """The one completion of a request, tried again while the server is overloaded. Raises BackendError."""
        exchange = self.post("/completions", body)
        if exchange.status != 200:
            raise BackendError(f"{self.base_url}: does not complete: {_told(exchange)}")
        return _reply(exchange.told() or {}, self.base_url)

    def dialect(self, model: str, prompt: Sequence[int], text: str, topk: int, extra: Mapping[str, Any]) -> Dialect:
        """How the server is to be asked, found out by completing one token. Raises BackendError where nothing works."""
        bare: Dialect | None = None
        last = ""
        for known in _KNOWN:
            tried = Dialect(known.ids, known.counts, min(known.k, topk))
            body = {"model": model, "prompt": list(prompt) if tried.ids else text, "max_tokens": 1, "temperature": 0.0}
            exchange = self.post("/completions", {**body, **tried.asking(), **extra}, probing=True)
            if exchange.fault is not None:
                raise self._silent(exchange)
            if exchange.status != 200:
                last = _told(exchange)
                continue
            reply = _reply(exchange.told() or {}, self.base_url)
            # A server that reads ids as something else, or has another tokenizer, counts otherwise.
            if tried.ids and reply.prompt_tokens not in (None, len(prompt)):
                continue
            if reply.positions and reply.positions[0].top:
                return tried
            bare = bare or Dialect(tried.ids, tried.counts, 0)
        if bare is None:
            raise BackendError(f"{self.base_url}: cannot be asked as {model!r}: {last}; look at address, model and key")
        return bare

    def models(self) -> list[str]:
        """The names that the server lists, adapters among them. Raises BackendError where it does not answer."""
        exchange = self._sent(lambda: self._line.client.get(f"{self.base_url}/models", headers=self._headers))
        if exchange.status != 200:
            raise self._silent(exchange)
        return [str(dig(one, "id")) for one in dig(exchange.told(), "data") or []]

    def post(self, path: str, body: Mapping[str, Any], *, probing: bool = False) -> Exchange:
        """What came of a request, after all its tries. A probe that a server chokes on is not tried again."""
        url = f"{self.base_url}{path}"
        again = _BUSY if probing else range(500, 600)
        return self._sent(lambda: self._line.client.post(url, json=dict(body), headers=self._headers), again)

    def _sent(self, do: Callable[[], object], again: Container[int] = range(500, 600)) -> Exchange:
        for wait_s in (*WAITS_S, None):
            exchange = self._line.call(do, self._deadline_s)
            lasting = exchange.fault is None and exchange.status != _LIMITED and exchange.status not in again
            if wait_s is None or lasting:
                return exchange
            time.sleep(wait_s)
        raise AssertionError("the last try returns")

    def _silent(self, exchange: Exchange) -> BackendError:
        return BackendError(
            f"{self.base_url}: does not answer: {_told(exchange)}; start the server, or mend guard.server"
        )


def _reply(told: Mapping[str, Any], base_url: str) -> Reply:
    text = dig(told, "choices", 0, "text")
    if not isinstance(text, str):
        raise BackendError(f"{base_url}: answers with no text: is it a server of completions?")
    count = dig(told, "usage", "prompt_tokens")
    stop = "length" if dig(told, "choices", 0, "finish_reason") == "length" else "stop"
    positions = _positions(dig(told, "choices", 0, "logprobs"))
    return Reply(text, stop, positions, count if isinstance(count, int) else None)


def _positions(said: object) -> tuple[Position, ...]:
    """OpenAI's older form (lists side by side) and its newer one (an object a token)."""
    content = dig(said, "content")
    if isinstance(content, list):
        return tuple(_of_object(one) for one in content)
    tops = dig(said, "top_logprobs")
    if not isinstance(tops, list):
        return ()
    return tuple(_of_lists(said, at, top) for at, top in enumerate(tops))


def _of_object(one: object) -> Position:
    listed = dig(one, "top_logprobs")
    top = tuple(_candidate(dig(each, "token"), dig(each, "logprob"), dig(each, "id")) for each in listed or [])
    # mlx_lm.server repeats one of the likeliest here, whichever was chosen, and then has an id.
    told = dig(one, "token") if dig(one, "id") is None else None
    return Position(None if told is None else _candidate(told, dig(one, "logprob")), _sorted(top))


def _of_lists(said: object, at: int, top: object) -> Position:
    token, logprob = dig(said, "tokens", at), dig(said, "token_logprobs", at)
    known = top.items() if isinstance(top, dict) else ()
    chosen = None if token is None else _candidate(token, logprob)
    return Position(chosen, _sorted(tuple(_candidate(text, each) for text, each in known)))


def _candidate(token: object, logprob: object, identity: object = None) -> Candidate:
    text = str(token)
    if identity is None and text.startswith(_TOKEN_ID) and text[len(_TOKEN_ID) :].isdigit():
        identity = int(text[len(_TOKEN_ID) :])
    value = float(logprob) if isinstance(logprob, int | float) else float("-inf")
    return Candidate(identity if isinstance(identity, int) else None, text, value)


def _sorted(top: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
    return tuple(sorted(top, key=lambda one: -one.logprob))


def _told(exchange: Exchange) -> str:
    """What went wrong, in one line."""
    if exchange.fault is not None:
        return exchange.fault
    said = dig(exchange.told(), "error", "message") or dig(exchange.told(), "error") or exchange.text
    return f"status {exchange.status}, {' '.join(str(said).split())[:200]}"
