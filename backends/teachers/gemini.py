"""Google's models as a teacher, asked live through the `google-genai` SDK. Batches are in `gemini_batches`.

The provider keeps the shared instruction in its cache by itself and says how many tokens came from there. Its safety
filters are set off, for the samples are what they look for; blocks remain, and are no reason to ask again.
"""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from wizloop.backends.http.exchange import dig
from wizloop.backends.teachers import prompt as teacher_prompt
from wizloop.backends.teachers.base import Answer, Outcome, Question, Usage
from wizloop.backends.teachers.gemini_clients import Clients
from wizloop.backends.teachers.reach import Model
from wizloop.backends.teachers.remote import RemoteTeacher, Stop
from wizloop.backends.teachers.replies import Kind, Told, count, dig_message, duration_s, plain_status

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
_SPENT = ("spending cap", "spend cap", "spend limit", "spending limit")
_DAY_QUOTA_S = 3600.0
_CAMEL = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class _Part(BaseModel):
    text: str = ""
    thought: bool = False


class _Content(BaseModel):
    parts: list[_Part] = []


class _Candidate(BaseModel):
    model_config = _CAMEL

    content: _Content = _Content()
    finish_reason: str | None = None


class _Reply(BaseModel):
    """What is needed of a reply; it has a candidate or says why there is none."""

    model_config = _CAMEL

    candidates: list[_Candidate] = []
    prompt_feedback: dict[str, Any] | None = None
    model_version: str | None = None
    response_id: str | None = None


class Gemini(RemoteTeacher):
    """A Teacher."""

    name: ClassVar[str] = "gemini"
    base_url: ClassVar[str] = "https://generativelanguage.googleapis.com/"
    limit_headers: ClassVar[tuple[str, str]] = ("x-ratelimit-{}-requests", "x-ratelimit-{}-tokens")

    def request(self, question: Question) -> dict[str, Any]:
        """What is sent for a question, as it can be shown, and as it stands in a batch's file."""
        contents = [{"parts": [{"text": teacher_prompt.message(question)}], "role": "user"}]
        return {"contents": contents, **self._alike(self.room(question))}

    def _alike(self, room: int) -> dict[str, Any]:
        """What is sent alike for all questions whose answers may have so many tokens."""
        generation: dict[str, Any] = {
            "maxOutputTokens": room,
            "responseMimeType": "application/json",
            "responseJsonSchema": teacher_prompt.schema(),
        }
        if self.reach.effort is not None:
            generation["thinkingConfig"] = {"thinking_level": self.reach.effort.upper()}
        return {
            "systemInstruction": {"parts": [{"text": self.reach.told}], "role": "user"},
            "safetySettings": [{"category": f"HARM_CATEGORY_{name}", "threshold": "OFF"} for name in _CATEGORIES],
            "generationConfig": generation,
            **({"serviceTier": "flex"} if self.reach.flex else {}),
        }

    def open(self, client: Any) -> tuple[Any, tuple[type[Exception], ...]]:
        """The SDK over this HTTP client, with no retries, and what it raises when a request breaks."""
        clients = Clients(client, self.reach, self.reach.base_url or self.base_url, self._alike)
        return clients, clients.faults

    def send(self, sdk: Clients, question: Question) -> object:
        """Ask the question; what the SDK makes of the reply is not looked at."""
        # It sees no reply, and so none that it would continue with further requests, which the provider bills.
        return sdk.ask(self.model, teacher_prompt.message(question), self.room(question))

    def answer(self, told: Told, question: Question) -> Answer | None:
        """The answer in a reply's JSON; None where it is no reply of this provider."""
        try:
            reply = _Reply.model_validate(told)
        except ValidationError:
            return None
        known = {
            "model": reply.model_version or self.model,
            "usage": _usage(dig(told, "usageMetadata")),
            "request_id": reply.response_id,
        }
        if reply.candidates:
            first = reply.candidates[0]
            text = "".join(part.text for part in first.content.parts if not part.thought)
            return self.finish(text, question, first.finish_reason, **known)
        if reply.prompt_feedback is None:
            return None
        return self.finish("", question, str(reply.prompt_feedback.get("blockReason") or "OTHER"), **known)

    def meaning(self, status: int, told: Told) -> Kind:
        """What an error means: a wrong key comes as a bad request, a spent budget as a rate limit."""
        message = dig_message(told)
        reasons = {str(dig(one, "reason")) for one in dig(told, "error", "details") or [] if dig(one, "reason")}
        named = f"{', '.join(sorted(reasons)) or dig(told, 'error', 'status') or f'status {status}'}: {message[:200]}"
        if "API_KEY_INVALID" in reasons:
            return "unauthorised", named
        if reasons & {"CONSUMER_SUSPENDED", "ACCOUNT_STATE_INVALID"}:
            return "account_disabled", named
        if "BILLING_DISABLED" in reasons or (
            status in (403, 429) and any(word in message.casefold() for word in _SPENT)
        ):
            return "spend_limit", named
        return plain_status(status, told)

    def asks_for(self, told: Told) -> float | None:
        """Seconds in an error's RetryInfo, and an hour at least where the quota is that of a day."""
        found = None
        for one in dig(told, "error", "details") or []:
            found = duration_s(dig(one, "retryDelay")) or found
            if "PerDay" in str(dig(one, "violations")):
                return max(found or 0.0, _DAY_QUOTA_S)
        return found

    def stop(self, reason: str | None, category: object = None) -> Stop:
        """What a finish reason, or the reason of a blocked prompt, means."""
        if reason is None:
            return "invalid", "it gives no reason why it ended"
        outcome = _STOPS.get(reason, "blocked")
        return outcome, None if outcome == "ok" else reason

    def inquire(self, sdk: Clients) -> object:
        """Ask what the provider says of the model."""
        found: object = sdk.plain.models.get(model=self.model)
        return found

    def described(self, told: Told) -> Model:
        """The model in the reply to that; the provider says nothing of its life."""
        limit = count(dig(told, "outputTokenLimit"))
        too_many = bool(limit) and limit < self.reach.max_tokens
        says = f"it writes {limit} tokens at most: lower teacher.gemini.max_tokens" if too_many else ""
        return Model(str(dig(told, "name") or self.model).removeprefix("models/"), "unknown", says)


def _usage(told: object) -> Usage:
    """Cached tokens are part of the prompt's count; what the model thought is billed, and not part of its answer's."""
    cached = count(dig(told, "cachedContentTokenCount"))
    return Usage(
        input_tokens=max(count(dig(told, "promptTokenCount")) - cached, 0),
        output_tokens=count(dig(told, "candidatesTokenCount")) + count(dig(told, "thoughtsTokenCount")),
        cached_tokens=cached,
    )
