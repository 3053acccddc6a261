"""Any server that speaks OpenAI's chat completions as a teacher: Ollama, vLLM, mlx_lm.server, or a paid one.

Some servers enforce a schema, some ignore it and some refuse it: the instruction repeats the schema. A text that was
cut off is never repaired.
"""

import json
from collections.abc import Callable
from typing import Any, ClassVar

from pydantic import SecretStr

from wizloop.backends.http.event_stream import joined
from wizloop.backends.http.exchange import Exchange, dig, list_at, text_at
from wizloop.backends.teachers import prompt as teacher_prompt
from wizloop.backends.teachers.base import Answer, Billed, Outcome, Question, Usage
from wizloop.backends.teachers.rejections import error_message
from wizloop.backends.teachers.remote import Access, ModelInfo, RemoteTeacher, Stop
from wizloop.backends.teachers.replies import MAX_RAW, Body, Fault, count, of_error, plain_status

_ROOM, _JSON, _NO_FORMAT, _NO_STREAM = "max_completion_tokens", "json_object", "no response_format", "no stream"
"""Changes of a request that a model does not take as it is."""
MAX_STREAM = 64_000_000
"""Bytes of a stream, in which each token has some hundred."""
_OTHER_ROOM = ("max_completion_tokens", "unsupported", "not supported", "unrecognized", "not permitted", "unknown")
_ABOUT_FORMAT = (
    "response_format",
    "json_schema",
    "json schema",
    "json_object",
    "structured output",
    "json mode",
    "schema",
)
_SPENT = ("insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached", "billing_not_active")
_STOPS: dict[str, Outcome] = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end_of_text", "end_turn", "stop_sequence", "tool_calls"), "ok"),
    "length": "truncated",
    "content_filter": "blocked",
    "refusal": "refused",
}


class OpenAIServer(RemoteTeacher):
    """A Teacher. `paid`: its answers cost money; a free one may be asked again after a crash."""

    name: ClassVar[str] = "openai"
    limit_headers: ClassVar[tuple[str, str]] = ("x-ratelimit-{}-requests", "x-ratelimit-{}-tokens")

    def __init__(self, access: Access, *, paid: bool) -> None:
        super().__init__(access)
        self.free = not paid
        self._instruction = teacher_prompt.with_schema(access.instruction, *access.form)

    def worst_usage(self, question: Question) -> Usage:
        """Return a token for each byte of the sample, and an answer of full length."""
        # A private server's own counts are not trusted.
        room, (small, words, categories) = self.max_tokens(question), self.access.form
        return teacher_prompt.worst_usage(
            self._instruction, question, room, small=small, words=words, categories=categories
        )

    def request(self, question: Question) -> dict[str, Any]:
        """Return the body of the request for a question, as it can be shown."""
        room = "max_completion_tokens" if _ROOM in self.adapted else "max_tokens"
        whole = {
            "model": self.model,
            room: self.max_tokens(question),
            "messages": [
                {"role": "system", "content": self._instruction},
                {"role": "user", "content": teacher_prompt.message(question, self.access.words)},
            ],
        }
        return whole | self._format() | self._stream()

    def _stream(self) -> dict[str, Any]:
        """Return the parameters that let the answer of a free server stream: it may be slow, and work on others first.

        It notices then as well that a connection was closed, and stops working.
        """
        if not self._streams:
            return {}
        return {"stream": True, "stream_options": {"include_usage": True}}

    @property
    def _streams(self) -> bool:
        return self.free and _NO_STREAM not in self.adapted

    def call(self, do: Callable[[Any], object], deadline_s: float, **how: Any) -> Exchange:
        """Let the SDK make a request; an answer that streamed is joined. Its deadline counts from its last piece."""
        if not self._streams:
            return super().call(do, deadline_s, **how)
        exchange = super().call(do, deadline_s, **{"streaming": True, "max_bytes": MAX_STREAM, **how})
        if exchange.streams and exchange.fault is None:
            whole = joined(exchange.body)
            exchange.body, exchange.fault = (exchange.body, "its stream broke off") if whole is None else (whole, None)
        return exchange

    def _format(self) -> dict[str, Any]:
        """Return the parameter that asks for JSON, as far as the server takes it; the instruction has the schema."""
        if _NO_FORMAT in self.adapted:
            return {}
        if _JSON in self.adapted:
            return {"response_format": {"type": "json_object"}}
        schema = {"name": "trace", "strict": True, "schema": teacher_prompt.schema(*self.access.form)}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}

    def adaptation(self, error: str, used: frozenset[str]) -> str | None:
        """Return the next change: another name for the room, JSON without a schema, then no format at all."""
        if _ROOM not in used and "max_tokens" in error and any(word in error for word in _OTHER_ROOM):
            return _ROOM
        if self._streams and _NO_STREAM not in used and "stream" in error:
            return _NO_STREAM
        if any(word in error for word in _ABOUT_FORMAT):
            return next((change for change in (_JSON, _NO_FORMAT) if change not in used), None)
        return None

    def open(self, client: Any) -> tuple[Any, tuple[type[Exception], ...]]:
        """Build the SDK over this HTTP client, without retries."""
        import openai

        # A private server needs no key, but the SDK does.
        secret = self.access.secret or SecretStr("none")
        sdk = openai.OpenAI(
            api_key=secret.get_secret_value(), base_url=self.access.base_url, max_retries=0, http_client=client
        )
        return sdk, (openai.APIConnectionError,)

    def send(self, sdk: Any, question: Question) -> object:
        """Ask the question; the SDK's parsed reply is ignored."""
        return sdk.chat.completions.with_raw_response.create(**self.request(question))

    def answer(self, body: Body, question: Question) -> Answer | None:
        """Return the answer in a completion's JSON; None if it is not a completion."""
        choice = dig(body, "choices", 0)
        message = dig(choice, "message")
        if isinstance(dig(choice, "error"), dict):
            return self._broken_off({"error": dig(choice, "error")}, body)
        if not isinstance(message, dict):
            return None
        refusal = text_at(message, "refusal") or None
        return self.finish(
            _text(message) or refusal or "",
            question,
            text_at(choice, "finish_reason") if refusal is None else "refusal",
            model=text_at(body, "model") or self.model,
            usage=self.usage(body),
            request_id=text_at(body, "id"),
        )

    def _broken_off(self, error: Body, body: Body) -> Answer:
        """Return the answer for an error in the middle of an answer, which is charged as far as it is counted."""
        outcome, category = of_error(error, self.error)
        raw, usage = json.dumps(error, ensure_ascii=False)[:MAX_RAW], self.usage(body)
        billed: Billed = "no" if self.free else "unknown" if usage == Usage() else "yes"
        return Answer(outcome, raw, self.model, category=category, usage=usage, billed=billed)

    def usage(self, body: Body) -> Usage:
        """Return the tokens that a completion counts; the prompt's include the cached ones."""
        counted = dig(body, "usage")
        cached = count(dig(counted, "prompt_tokens_details", "cached_tokens"))
        return Usage(
            input_tokens=max(count(dig(counted, "prompt_tokens")) - cached, 0),
            output_tokens=count(dig(counted, "completion_tokens")),
            cached_tokens=cached,
        )

    def error(self, status: int, body: Body) -> Fault:
        """Return the meaning of an error: a spent quota arrives with the status of a rate limit."""
        codes = (dig(body, "error", "code"), dig(body, "error", "type"))
        spent = next((code for code in codes if code in _SPENT), None)
        if spent is not None:
            return "spend_limit", f"{spent}: {error_message(body)[:300]}"
        if "account_deactivated" in codes:
            return "account_disabled", f"account_deactivated: {error_message(body)[:300]}"
        return plain_status(status, body)

    def stop(self, reason: str | None, detail: object = None) -> Stop:
        """Return the meaning of a finish reason; a server that gives none has finished."""
        outcome = _STOPS.get(reason or "stop", "invalid")
        return outcome, None if outcome == "ok" else f"it stopped with {reason}"

    def get_model(self, sdk: Any) -> object:
        """Request the list of models."""
        return sdk.models.with_raw_response.list()

    def describe(self, body: Body) -> ModelInfo:
        """Return the model, by the list of the server."""
        listed = [str(dig(one, "id")) for one in list_at(body, "data")]
        if self.model in listed:
            return ModelInfo(self.model, "active")
        return ModelInfo(self.model, "retired", f"the server has {', '.join(listed[:5]) or 'no model'}")


def _text(message: object) -> str:
    """Return a message's text: its parts joined, without the thinking.

    Where nothing else was said, it is what one tool was called with, as servers force a schema, or a reasoning that is
    one JSON object and nothing more: servers that take thinking apart put it there when a model did not think.
    """
    content = dig(message, "content")
    if isinstance(content, list):
        texts = (text_at(part, "text") for part in content if dig(part, "type") in ("text", "output_text", None))
        content = "".join(text for text in texts if text)
    if isinstance(content, str) and content.strip():
        return content
    called = list_at(message, "tool_calls")
    if len(called) == 1:
        return text_at(called, 0, "function", "arguments") or ""
    aside = (text_at(message, "reasoning_content") or text_at(message, "reasoning") or "").strip()
    return aside if aside.startswith("{") and aside.endswith("}") else ""
