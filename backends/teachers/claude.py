"""Anthropic's models as a teacher, asked live with the `anthropic` SDK. Batches are in `claude_batches`.

The shared instruction is marked for the provider's cache. Structured output is requested with `output_config`; the
provider enforces neither lengths nor counts, so answers are checked on arrival.
"""

from typing import Any, ClassVar

from pydantic import SecretStr

from wizloop.backends.http.exchange import dig, text_at
from wizloop.backends.teachers import prompt as teacher_prompt
from wizloop.backends.teachers.base import Answer, Outcome, Question, Usage
from wizloop.backends.teachers.rejections import error_message
from wizloop.backends.teachers.remote import ModelInfo, RemoteTeacher, Stop
from wizloop.backends.teachers.replies import Body, Fault, count, plain_status

_SPENT = ("enforced_spend_limit_reached", "contract_spend_limit_reached", "linked_organization_spend_limit_reached")
_NO_EFFORT, _NO_FORMAT, _CONFIG = "no effort", "no output format", "output_config"
_ABOUT_FORMAT = (_CONFIG, "output_format", "json_schema", "schema", "structured output")
_STOPS: dict[str, Outcome] = {
    "end_turn": "ok",
    "stop_sequence": "ok",
    "max_tokens": "truncated",
    "model_context_window_exceeded": "truncated",
    "refusal": "refused",
}


class Claude(RemoteTeacher):
    """A Teacher."""

    name: ClassVar[str] = "claude"
    base_url: ClassVar[str] = "https://api.anthropic.com"
    limit_headers: ClassVar[tuple[str, str]] = ("anthropic-ratelimit-requests-{}", "anthropic-ratelimit-tokens-{}")
    cache: ClassVar[dict[str, str]] = {"type": "ephemeral"}
    """The instruction stays in the cache for five minutes after its last use."""

    def request(self, question: Question) -> dict[str, Any]:
        """Return the body of the request for a question, as it can be shown."""
        instruction, output = self.access.instruction, dict[str, Any]()
        if _NO_FORMAT in self.adapted:
            instruction = teacher_prompt.with_schema(instruction, *self.access.form)
        else:
            output["format"] = {"type": "json_schema", "schema": teacher_prompt.schema(*self.access.form)}
        if self.access.effort is not None and _NO_EFFORT not in self.adapted:
            output["effort"] = "low" if self.access.effort == "minimal" else self.access.effort
        whole = {
            "model": self.model,
            "max_tokens": self.max_tokens(question),
            "system": [{"type": "text", "text": instruction, "cache_control": self.cache}],
            "messages": [{"role": "user", "content": teacher_prompt.message(question, self.access.words)}],
        }
        return whole | ({"output_config": output} if output else {})

    def adaptation(self, error: str, used: frozenset[str]) -> str | None:
        """Return the next change: without an effort, without a schema."""
        if self.access.effort is not None and _NO_EFFORT not in used and ("effort" in error or _CONFIG in error):
            return _NO_EFFORT
        return _NO_FORMAT if _NO_FORMAT not in used and any(word in error for word in _ABOUT_FORMAT) else None

    def open(self, client: Any) -> tuple[Any, tuple[type[Exception], ...]]:
        """Build the SDK over this HTTP client, without retries."""
        import anthropic

        secret = self.access.secret or SecretStr("")
        sdk = anthropic.Anthropic(
            api_key=secret.get_secret_value(),
            base_url=self.access.base_url or self.base_url,
            max_retries=0,
            http_client=client,
            # Samples must not reach a trace collector that the environment may name.
            open_telemetry=False,
        )
        return sdk, (anthropic.APIConnectionError,)

    def send(self, sdk: Any, question: Question) -> object:
        """Ask the question; the SDK's parsed reply is ignored."""
        # Without a timeout of its own the SDK refuses long answers that are not streamed.
        return sdk.messages.with_raw_response.create(**self.request(question), timeout=self.access.deadline_s)

    def answer(self, body: Body, question: Question) -> Answer | None:
        """Return the answer in a message's JSON; None if it is not a message."""
        model, content = text_at(body, "model"), dig(body, "content")
        if model is None or not isinstance(content, list):
            return None
        return self.finish(
            "".join(text_at(block, "text") or "" for block in content if dig(block, "type") == "text"),
            question,
            text_at(body, "stop_reason"),
            dig(body, "stop_details", "category"),
            model=model,
            usage=self.usage(body),
            request_id=text_at(body, "id"),
        )

    def usage(self, body: Body) -> Usage:
        """Return the tokens that a message counts."""
        usage = dig(body, "usage")
        return Usage(
            input_tokens=count(dig(usage, "input_tokens")),
            output_tokens=count(dig(usage, "output_tokens")),
            cached_tokens=count(dig(usage, "cache_read_input_tokens")),
            cache_write_tokens=count(dig(usage, "cache_creation_input_tokens")),
        )

    def error(self, status: int, body: Body) -> Fault:
        """Return the meaning of an error: a spend limit arrives with the status of a rate limit."""
        code = str(dig(body, "error", "details", "error_code") or "")
        message = error_message(body)
        if code in _SPENT or status == 402:
            return "spend_limit", f"{code or f'status {status}'}: {message[:300]}"
        if code == "organization_on_hold" or "organization has been disabled" in message:
            return "account_disabled", f"{code or f'status {status}'}: {message[:300]}"
        return plain_status(status, body)

    def stop(self, reason: str | None, detail: object = None) -> Stop:
        """Return the meaning of a stop reason; a refusal has a category if the provider names one."""
        outcome = _STOPS.get(reason or "", "invalid")
        if outcome == "refused":
            return outcome, detail if isinstance(detail, str) else "no category"
        return outcome, None if outcome == "ok" else f"it stopped with {reason}"

    def get_model(self, sdk: Any) -> object:
        """Request the provider's description of the model."""
        return sdk.models.with_raw_response.retrieve(self.model)

    def describe(self, body: Body) -> ModelInfo:
        """Return the model in that reply."""
        ends, lifecycle = text_at(body, "retires_at"), text_at(body, "lifecycle") or "unknown"
        name = text_at(body, "id") or self.model
        return ModelInfo(name, lifecycle, f"it ends on {ends[:10]}" if ends else "")
