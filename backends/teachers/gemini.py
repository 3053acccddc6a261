"""Google's models as a teacher, asked live with the `google-genai` SDK. Batches are in `gemini_batches`.

The provider caches the shared instruction by itself and counts the cached tokens. Its safety filters are off, since
the samples are what they filter; it still blocks some, and a blocked question is not asked again.
"""

import ssl
import threading
from collections.abc import Callable
from typing import Any, ClassVar

from pydantic import SecretStr

from wizloop.backends.http.exchange import dig, list_at, text_at
from wizloop.backends.teachers import prompt as teacher_prompt
from wizloop.backends.teachers.base import Answer, Outcome, Question, Usage
from wizloop.backends.teachers.rejections import error_message, is_spent
from wizloop.backends.teachers.remote import Access, ModelInfo, RemoteTeacher, Stop
from wizloop.backends.teachers.replies import Body, Fault, count, duration_s, plain_status

_NO_THINKING, _NO_SCHEMA = "no thinking level", "no response schema"
_ABOUT_SCHEMA = ("schema", "json mode", "mime")
_STOPS: dict[str, Outcome] = {
    "STOP": "ok",
    "MAX_TOKENS": "truncated",
    "CONTINUATION": "truncated",
    "PUP_LIMITED_DISABLED": "account_disabled",
    "MALFORMED_RESPONSE": "invalid",
    "FINISH_REASON_UNSPECIFIED": "invalid",
}
"""Every other reason is a block."""
_CATEGORIES = ("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT")
_DAY_QUOTA_S = 3600.0


class Clients:
    """The SDK's clients over one HTTP client, one for each limit of the answer's tokens and each change.

    A client adds to its requests the part that all of them share. If every request carried it, the SDK would check,
    copy and convert it each time, which took half of a call's processor time.
    """

    def __init__(
        self,
        http: Any,
        access: Access,
        address: str,
        shared: Callable[[int], dict[str, Any]],
        adapted: Callable[[], frozenset[str]],
    ) -> None:
        from google.genai import errors, types

        class Text(types.Part):
            """A text part that answers at once when the SDK tests each possible field with `in`.

            Pydantic would search all of its fields each time, and the SDK then looks for an attribute anyway.
            """

            def __contains__(self, name: str) -> bool:
                return False

        self._http, self._access, self._address, self._shared = http, access, address, shared
        self._types, self._text = types, Text
        self._adapted = adapted
        self._made, self._making = dict[tuple[int | None, frozenset[str]], Any](), threading.Lock()
        self.faults: tuple[type[Exception], ...] = (errors.APIError,)
        """What the SDK raises when a request breaks."""
        # Built now, and not during the first request.
        self.plain = self._client(None)
        """For everything but questions."""
        self._client(access.max_tokens)

    def ask(self, model: str, message: str, max_tokens: int) -> object:
        """Request the answer to a message."""
        content = self._types.Content(parts=[self._text(text=message)], role="user")
        return self._client(max_tokens).models.generate_content(model=model, contents=content)

    def _client(self, max_tokens: int | None) -> Any:
        with self._making:
            key = (max_tokens, self._adapted())
            if key not in self._made:
                self._made[key] = self._make(max_tokens)
            return self._made[key]

    def _make(self, max_tokens: int | None) -> Any:
        from google import genai

        # The provider is told the time too, so that it does not work for, and bill, a caller that has given up.
        seconds = self._access.batch_deadline_s if max_tokens is None else self._access.deadline_s
        # For its own connections, which are never made, the SDK would read the root certificates three times: 0.15 s.
        unused = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        options = self._types.HttpOptions(
            base_url=self._address,
            httpx_client=self._http,
            async_client_args={"verify": unused, "ssl": unused},
            timeout=int(seconds * 1000),
            extra_body=None if max_tokens is None else self._shared(max_tokens),
        )
        secret = (self._access.secret or SecretStr("")).get_secret_value()
        # Explicit, or the environment could send the questions to another Google service.
        return genai.Client(api_key=secret, enterprise=False, http_options=options)


class Gemini(RemoteTeacher):
    """A Teacher."""

    name: ClassVar[str] = "gemini"
    base_url: ClassVar[str] = "https://generativelanguage.googleapis.com/"
    limit_headers: ClassVar[tuple[str, str]] = ("x-ratelimit-{}-requests", "x-ratelimit-{}-tokens")

    def request(self, question: Question) -> dict[str, Any]:
        """Return the body of the request for a question, as it can be shown, and as a batch's file holds it."""
        contents = [{"parts": [{"text": teacher_prompt.message(question, self.access.words)}], "role": "user"}]
        return {"contents": contents, **self._shared(self.max_tokens(question))}

    def _shared(self, max_tokens: int) -> dict[str, Any]:
        """Return the part of the body that all questions with this limit of the answer's tokens share."""
        instruction, generation = self.access.instruction, dict[str, Any](maxOutputTokens=max_tokens)
        if _NO_SCHEMA in self.adapted:
            instruction = teacher_prompt.with_schema(instruction, *self.access.form)
        else:
            generation |= {
                "responseMimeType": "application/json",
                "responseJsonSchema": teacher_prompt.schema(*self.access.form),
            }
        if self.access.effort is not None and _NO_THINKING not in self.adapted:
            generation["thinkingConfig"] = {"thinking_level": self.access.effort.upper()}
        return {
            "systemInstruction": {"parts": [{"text": instruction}], "role": "user"},
            "safetySettings": [{"category": f"HARM_CATEGORY_{name}", "threshold": "OFF"} for name in _CATEGORIES],
            "generationConfig": generation,
            **({"serviceTier": "flex"} if self.access.flex else {}),
        }

    def adaptation(self, error: str, used: frozenset[str]) -> str | None:
        """Return the next change: without a level of thinking, without a schema."""
        if self.access.effort is not None and _NO_THINKING not in used and "thinking" in error:
            return _NO_THINKING
        return _NO_SCHEMA if _NO_SCHEMA not in used and any(word in error for word in _ABOUT_SCHEMA) else None

    def open(self, client: Any) -> tuple[Any, tuple[type[Exception], ...]]:
        """Build the SDK over this HTTP client, without retries."""
        address = self.access.base_url or self.base_url
        clients = Clients(client, self.access, address, self._shared, lambda: self.adapted)
        return clients, clients.faults

    def send(self, sdk: Clients, question: Question) -> object:
        """Ask the question; the SDK's parsed reply is ignored."""
        # It sees no reply, so it cannot continue one with further requests, which the provider bills.
        return sdk.ask(self.model, teacher_prompt.message(question, self.access.words), self.max_tokens(question))

    def answer(self, body: Body, question: Question) -> Answer | None:
        """Return the answer in a reply's JSON; None if it is not a reply of this provider."""
        known = {
            "model": text_at(body, "modelVersion") or self.model,
            "usage": self.usage(body),
            "request_id": text_at(body, "responseId"),
        }
        candidate, feedback = dig(body, "candidates", 0), dig(body, "promptFeedback")
        if isinstance(candidate, dict):
            parts = list_at(candidate, "content", "parts")
            text = "".join(text_at(part, "text") or "" for part in parts if not dig(part, "thought"))
            return self.finish(text, question, text_at(candidate, "finishReason"), **known)
        if not isinstance(feedback, dict):
            return None
        return self.finish("", question, text_at(feedback, "blockReason") or "OTHER", **known)

    def usage(self, body: Body) -> Usage:
        """Return the tokens that a reply counts: the prompt's include the cached ones, thinking is billed and apart."""
        usage = dig(body, "usageMetadata")
        cached = count(dig(usage, "cachedContentTokenCount"))
        return Usage(
            input_tokens=max(count(dig(usage, "promptTokenCount")) - cached, 0),
            output_tokens=count(dig(usage, "candidatesTokenCount")) + count(dig(usage, "thoughtsTokenCount")),
            cached_tokens=cached,
        )

    def error(self, status: int, body: Body) -> Fault:
        """Return the meaning of an error: a wrong key arrives as a bad request, a spent budget as a rate limit."""
        message = error_message(body)
        reasons = {str(dig(one, "reason")) for one in list_at(body, "error", "details") if dig(one, "reason")}
        named = f"{', '.join(sorted(reasons)) or dig(body, 'error', 'status') or f'status {status}'}: {message[:300]}"
        if "API_KEY_INVALID" in reasons:
            return "unauthorised", named
        if reasons & {"CONSUMER_SUSPENDED", "ACCOUNT_STATE_INVALID"}:
            return "account_disabled", named
        if "BILLING_DISABLED" in reasons or (status in (403, 429) and is_spent(body)):
            return "spend_limit", named
        return plain_status(status, body)

    def retry_delay_s(self, body: Body) -> float | None:
        """Return the seconds in an error's RetryInfo, an hour at least for a daily quota."""
        found = None
        for one in list_at(body, "error", "details"):
            found = duration_s(dig(one, "retryDelay")) or found
            if "PerDay" in str(dig(one, "violations")):
                return max(found or 0.0, _DAY_QUOTA_S)
        return found

    def stop(self, reason: str | None, detail: object = None) -> Stop:
        """Return the meaning of a finish reason, or of the reason for a blocked prompt."""
        if reason is None:
            return "invalid", "it gives no reason why it ended"
        outcome = _STOPS.get(reason, "blocked")
        return outcome, None if outcome == "ok" else reason

    def get_model(self, sdk: Clients) -> object:
        """Request the provider's description of the model."""
        return sdk.plain.models.get(model=self.model)

    def describe(self, body: Body) -> ModelInfo:
        """Return the model in that reply; the provider does not say when a model ends."""
        limit = count(dig(body, "outputTokenLimit"))
        too_many = bool(limit) and limit < self.access.max_tokens
        note = f"it writes {limit} tokens at most: lower teacher.gemini.max_tokens" if too_many else ""
        return ModelInfo(str(dig(body, "name") or self.model).removeprefix("models/"), "unknown", note)
