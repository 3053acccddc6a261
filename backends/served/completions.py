"""Client of a completions server: requests, and a reply's text and log-probabilities in any of their forms.

Speaks OpenAI's completions as vLLM, llama.cpp, and mlx_lm.server do, and its chat completions as these and Ollama do.
It knows no guard and no verdicts.
"""

import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import SecretStr

from wizloop.backends.guard_types import BackendError
from wizloop.backends.http.exchange import Exchange, dig
from wizloop.backends.http.transport import Session

WAITS_S = (0.5, 2.0, 8.0)
"""Seconds before each retry of a request that broke off or met an overloaded server."""
_TOKEN_ID = "token_id:"
_LIMITED, _BUSY = 429, (503,)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A likely token at a position: its id if the server gives it, else its text."""

    id: int | None
    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Position:
    """One token of a reply: the chosen one, if the server names it, and the most likely ones."""

    chosen: Candidate | None
    top: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """One completion. `positions` is empty if the server gives no log-probabilities."""

    text: str
    stop: str
    """"stop" or "length"."""
    positions: tuple[Position, ...]
    prompt_tokens: int | None


@dataclass(frozen=True, slots=True)
class Dialect:
    """The form of request that a server takes."""

    ids: bool
    """True to send a prompt as token ids, False as text, which the server encodes again."""
    counts: bool
    """True if `logprobs` is a count, False if it is `true` with the count in `top_logprobs`."""
    k: int
    """Log-probabilities at each token; 0 if the server gives none."""
    quiet: bool = False
    """True to switch thinking off in the server's chat template."""

    def parameters(self) -> dict[str, Any]:
        """Return the request parameters that ask for log-probabilities."""
        quiet = {"chat_template_kwargs": dict(_QUIET)} if self.quiet else {}
        if self.k == 0:
            return quiet
        if not self.counts:
            return {"logprobs": True, "top_logprobs": self.k, **quiet}
        return {"logprobs": self.k, "return_tokens_as_token_ids": True} if self.ids else {"logprobs": self.k}


# vLLM takes ids and 20; others read text; mlx_lm.server wants `true` and gives 11; OpenAI's own limit is 5.
_KNOWN = (Dialect(True, True, 20), Dialect(False, True, 20), Dialect(False, False, 11), Dialect(False, True, 5))

# A chat's form is one; a server may refuse a number, or a field that it does not know.
_CHATS = tuple(Dialect(False, False, k, quiet) for quiet in (True, False) for k in (20, 11, 5))
_QUIET = {"enable_thinking": False, "thinking": False}


class Endpoint:
    """A server, asked for completions or for answers in a chat. Any number of threads may use it."""

    def __init__(self, base_url: str, secret: SecretStr | None, deadline_s: float, *, chat: bool = False) -> None:
        self.base_url, self.chat = base_url.rstrip("/"), chat
        self._session = Session(self.base_url, secret)
        self._headers = {} if secret is None else {"authorization": f"Bearer {secret.get_secret_value()}"}
        self._deadline_s = deadline_s

    def close(self) -> None:
        """Close the connections."""
        self._session.client.close()

    def complete(self, body: Mapping[str, Any]) -> Reply:
        """Complete a request, with retries while the server is overloaded. Raises BackendError."""
        exchange = self.post(self._path, body)
        if exchange.status != 200:
            raise BackendError(f"{self.base_url}: does not complete: {_why(exchange)}")
        return _reply(exchange.json() or {}, self.base_url)

    def asked(self, prompt: Sequence[int] | str) -> dict[str, Any]:
        """Return the request's prompt; in a chat, a text as the only turn."""
        if self.chat:
            return {"messages": [{"role": "user", "content": prompt}]}
        return {"prompt": prompt if isinstance(prompt, str) else list(prompt)}

    @property
    def _path(self) -> str:
        return "/chat/completions" if self.chat else "/completions"

    def dialect(self, model: str, prompt: Sequence[int], text: str, topk: int, extra: Mapping[str, Any]) -> Dialect:
        """Find the server's dialect by completing one token. Raises BackendError if none works."""
        bare: Dialect | None = None
        last = ""
        for known in _CHATS if self.chat else _KNOWN:
            tried = replace(known, k=min(known.k, topk))
            body = {"model": model, **self.asked(prompt if tried.ids else text), "max_tokens": 1, "temperature": 0.0}
            exchange = self.post(self._path, {**body, **tried.parameters(), **extra}, probing=True)
            if exchange.fault is not None:
                raise self._silent(exchange)
            if exchange.status != 200:
                last = _why(exchange)
                continue
            reply = _reply(exchange.json() or {}, self.base_url)
            # A server that reads ids as something else, or has another tokenizer, reports another count.
            if tried.ids and reply.prompt_tokens not in (None, len(prompt)):
                continue
            if reply.positions and reply.positions[0].top:
                return tried
            bare = bare or replace(tried, k=0)
        if bare is None:
            raise BackendError(f"{self.base_url}: accepts no request for {model!r}: {last}; check URL, model, and key")
        return bare

    def models(self) -> list[str]:
        """Return the models that the server lists, adapters included. Raises BackendError if it does not answer."""
        exchange = self._sent(lambda: self._session.client.get(f"{self.base_url}/models", headers=self._headers))
        if exchange.status != 200:
            raise self._silent(exchange)
        return [str(dig(model, "id")) for model in dig(exchange.json(), "data") or []]

    def post(self, path: str, body: Mapping[str, Any], *, probing: bool = False) -> Exchange:
        """Send a request, with retries. A probe that makes the server fail is not retried."""
        url = f"{self.base_url}{path}"
        again = _BUSY if probing else range(500, 600)
        return self._sent(lambda: self._session.client.post(url, json=dict(body), headers=self._headers), again)

    def _sent(self, do: Callable[[], object], again: Container[int] = range(500, 600)) -> Exchange:
        exchange = self._session.call(do, self._deadline_s)
        for wait_s in WAITS_S:
            if exchange.fault is None and exchange.status != _LIMITED and exchange.status not in again:
                break
            time.sleep(wait_s)
            exchange = self._session.call(do, self._deadline_s)
        return exchange

    def _silent(self, exchange: Exchange) -> BackendError:
        return BackendError(
            f"{self.base_url}: does not answer: {_why(exchange)}; start the server, or fix guard.server"
        )


def _reply(body: Mapping[str, Any], base_url: str) -> Reply:
    choice = dig(body, "choices", 0)
    text, count = dig(choice, "text"), dig(body, "usage", "prompt_tokens")
    if isinstance(dig(choice, "message"), dict):
        # Nothing but thinking leaves no content.
        text = dig(choice, "message", "content") or ""
    if not isinstance(text, str):
        raise BackendError(f"{base_url}: answers with no text: is it a completions server?")
    stop = "length" if dig(choice, "finish_reason") == "length" else "stop"
    return Reply(text, stop, _positions(dig(choice, "logprobs")), count if isinstance(count, int) else None)


def _positions(logprobs: object) -> tuple[Position, ...]:
    """Read OpenAI's newer form (an object per token) or its older one (parallel lists)."""
    content, tops = dig(logprobs, "content"), dig(logprobs, "top_logprobs")
    if isinstance(content, list):
        return tuple(_from_object(token) for token in content)
    if not isinstance(tops, list):
        return ()
    return tuple(_from_lists(logprobs, at, top) for at, top in enumerate(tops))


def _from_object(token: object) -> Position:
    listed = dig(token, "top_logprobs") or []
    top = [_candidate(dig(each, "token"), dig(each, "logprob"), dig(each, "id")) for each in listed]
    # mlx_lm.server repeats one of the most likely here, whichever was chosen, and then has an id.
    named = dig(token, "id") is None
    return _position(dig(token, "token") if named else None, dig(token, "logprob"), top)


def _from_lists(logprobs: object, at: int, top: object) -> Position:
    listed = [_candidate(text, logprob) for text, logprob in top.items()] if isinstance(top, dict) else []
    return _position(dig(logprobs, "tokens", at), dig(logprobs, "token_logprobs", at), listed)


def _position(token: object, logprob: object, top: Sequence[Candidate]) -> Position:
    chosen = None if token is None else _candidate(token, logprob)
    return Position(chosen, tuple(sorted(top, key=lambda candidate: -candidate.logprob)))


def _candidate(token: object, logprob: object, identity: object = None) -> Candidate:
    text = str(token)
    if identity is None and text.startswith(_TOKEN_ID) and text[len(_TOKEN_ID) :].isdigit():
        identity = int(text[len(_TOKEN_ID) :])
    value = float(logprob) if isinstance(logprob, int | float) else float("-inf")
    return Candidate(identity if isinstance(identity, int) else None, text, value)


def _why(exchange: Exchange) -> str:
    """Describe a failure in one line."""
    if exchange.fault is not None:
        return exchange.fault
    error = dig(exchange.json(), "error")
    message = dig(error, "message") or error or exchange.text
    return f"status {exchange.status}, {' '.join(str(message).split())[:200]}"
