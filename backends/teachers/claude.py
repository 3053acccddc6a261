"""Anthropic's models as a teacher, asked live through the `anthropic` SDK. Batches are in `claude_batches`.

The shared instruction is marked for the provider's cache. Structured output is asked for with `output_config`; the
provider enforces neither lengths nor counts, so what came back is checked on arrival.
"""

from typing import Any, ClassVar

from pydantic import BaseModel, SecretStr, ValidationError

from wizloop.backends.http.exchange import dig
from wizloop.backends.teachers import prompt as teacher_prompt
from wizloop.backends.teachers.base import Answer, Outcome, Question, Usage
from wizloop.backends.teachers.reach import Model
from wizloop.backends.teachers.remote import RemoteTeacher, Stop
from wizloop.backends.teachers.replies import Kind, Told, count, dig_message, plain_status

_SPENT = ("enforced_spend_limit_reached", "contract_spend_limit_reached", "linked_organization_spend_limit_reached")
_STOPS: dict[str, Outcome] = {
    "end_turn": "ok",
    "stop_sequence": "ok",
    "max_tokens": "truncated",
    "model_context_window_exceeded": "truncated",
    "refusal": "refused",
}


class _Block(BaseModel):
    type: str
    text: str = ""


class _Message(BaseModel):
    """What is needed of a message."""

    model: str
    content: list[_Block]
    stop_reason: str | None
    id: str | None = None


class Claude(RemoteTeacher):
    """A Teacher."""

    name: ClassVar[str] = "claude"
    base_url: ClassVar[str] = "https://api.anthropic.com"
    limit_headers: ClassVar[tuple[str, str]] = ("anthropic-ratelimit-requests-{}", "anthropic-ratelimit-tokens-{}")
    cache: ClassVar[dict[str, str]] = {"type": "ephemeral"}
    """How long the instruction is kept: five minutes from its last use."""

    def request(self, question: Question) -> dict[str, Any]:
        """What is sent for a question, as it can be shown."""
        output: dict[str, Any] = {"format": {"type": "json_schema", "schema": teacher_prompt.schema()}}
        if self.reach.effort is not None:
            output["effort"] = "low" if self.reach.effort == "minimal" else self.reach.effort
        return {
            "model": self.model,
            "max_tokens": self.room(question),
            "system": [{"type": "text", "text": self.reach.told, "cache_control": self.cache}],
            "messages": [{"role": "user", "content": teacher_prompt.message(question)}],
            "output_config": output,
        }

    def open(self, client: Any) -> tuple[Any, tuple[type[Exception], ...]]:
        """The SDK over this HTTP client with its retries off, and what it raises when a request breaks."""
        import anthropic

        secret = self.reach.secret or SecretStr("")
        sdk = anthropic.Anthropic(
            api_key=secret.get_secret_value(),
            base_url=self.reach.base_url or self.base_url,
            max_retries=0,
            http_client=client,
            # What is asked is not for a collector of traces that the environment may name.
            open_telemetry=False,
        )
        return sdk, (anthropic.APIConnectionError,)

    def send(self, sdk: Any, question: Question) -> object:
        """Ask the question; what the SDK makes of the reply is not looked at."""
        # Without a timeout of its own the SDK refuses long answers that are not streamed.
        found: object = sdk.messages.with_raw_response.create(**self.request(question), timeout=self.reach.deadline_s)
        return found

    def answer(self, told: Told, question: Question) -> Answer | None:
        """The answer in a message's JSON; None where it is no message."""
        try:
            reply = _Message.model_validate(told)
        except ValidationError:
            return None
        return self.finish(
            "".join(block.text for block in reply.content if block.type == "text"),
            question,
            reply.stop_reason,
            dig(told, "stop_details", "category"),
            model=reply.model,
            usage=_usage(dig(told, "usage")),
            request_id=reply.id,
        )

    def meaning(self, status: int, told: Told) -> Kind:
        """What an error means: a spend limit comes with the status of a rate limit."""
        code = str(dig(told, "error", "details", "error_code") or "")
        message = dig_message(told)
        if code in _SPENT or status == 402:
            return "spend_limit", f"{code or f'status {status}'}: {message[:200]}"
        if code == "organization_on_hold" or "organization has been disabled" in message:
            return "account_disabled", f"{code or f'status {status}'}: {message[:200]}"
        return plain_status(status, told)

    def stop(self, reason: str | None, category: object = None) -> Stop:
        """What a stop reason means; a refusal has a category where the provider names one."""
        outcome = _STOPS.get(reason or "", "invalid")
        if outcome == "refused":
            return outcome, category if isinstance(category, str) else "no category"
        return outcome, None if outcome == "ok" else f"it stopped with {reason}"

    def inquire(self, sdk: Any) -> object:
        """Ask what the provider says of the model."""
        found: object = sdk.models.with_raw_response.retrieve(self.model)
        return found

    def described(self, told: Told) -> Model:
        """The model in the reply to that."""
        ends, lifecycle = dig(told, "retires_at"), dig(told, "lifecycle")
        return Model(
            str(dig(told, "id") or self.model),
            lifecycle if isinstance(lifecycle, str) else "unknown",
            f"it ends on {str(ends)[:10]}" if ends else "",
        )


def _usage(told: object) -> Usage:
    return Usage(
        input_tokens=count(dig(told, "input_tokens")),
        output_tokens=count(dig(told, "output_tokens")),
        cached_tokens=count(dig(told, "cache_read_input_tokens")),
        cache_write_tokens=count(dig(told, "cache_creation_input_tokens")),
    )
