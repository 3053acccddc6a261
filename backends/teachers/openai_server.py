"""Any server that speaks OpenAI's chat completions as a teacher: Ollama, vLLM, mlx_lm.server, or a paid one.

Such servers keep to a schema, or do not know the word: the schema stands in the instruction too, and JSON is looked
for inside the text. A text that was cut off is never mended.
"""

import json
from typing import Any, ClassVar

from pydantic import BaseModel, SecretStr, ValidationError

from wizloop.backends.http.exchange import dig
from wizloop.backends.teachers import prompt as teacher_prompt
from wizloop.backends.teachers.base import Answer, Outcome, Question, Usage
from wizloop.backends.teachers.reach import Model, Reach
from wizloop.backends.teachers.remote import RemoteTeacher, Stop
from wizloop.backends.teachers.replies import Kind, Told, count, dig_message, plain_status

_STOPS: dict[str, Outcome] = {
    "stop": "ok",
    "length": "truncated",
    "content_filter": "blocked",
    "refusal": "refused",
}


class _Said(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Said
    finish_reason: str | None = None


class _Completion(BaseModel):
    """What is needed of a completion."""

    choices: list[_Choice]
    model: str | None = None
    id: str | None = None


class OpenAIServer(RemoteTeacher):
    """A Teacher. `paid` says whether its answers cost money; a free one may be asked again after a crash."""

    name: ClassVar[str] = "openai"
    limit_headers: ClassVar[tuple[str, str]] = ("x-ratelimit-{}-requests", "x-ratelimit-{}-tokens")

    def __init__(self, reach: Reach, *, paid: bool) -> None:
        super().__init__(reach)
        self._paid = paid
        self._told = f"{reach.told}\n\nThe schema of the JSON object:\n{json.dumps(teacher_prompt.schema())}"

    @property
    def free(self) -> bool:
        """Whether its answers cost nothing."""
        return not self._paid

    def worst_usage(self, question: Question) -> Usage:
        """Every byte of the sample a token, and an answer of full length."""
        # What a server of one's own counts is not built upon.
        return teacher_prompt.worst_usage(self._told, question, self.room(question))

    def request(self, question: Question) -> dict[str, Any]:
        """What is sent for a question, as it can be shown."""
        schema = {"name": "trace", "strict": True, "schema": teacher_prompt.schema()}
        return {
            "model": self.model,
            "max_tokens": self.room(question),
            "messages": [
                {"role": "system", "content": self._told},
                {"role": "user", "content": teacher_prompt.message(question)},
            ],
            "response_format": {"type": "json_schema", "json_schema": schema},
        }

    def open(self, client: Any) -> tuple[Any, tuple[type[Exception], ...]]:
        """The SDK over this HTTP client with its retries off, and what it raises when a request breaks."""
        import openai

        # A server of one's own asks for no key, but the SDK does.
        secret = self.reach.secret or SecretStr("none")
        sdk = openai.OpenAI(
            api_key=secret.get_secret_value(), base_url=self.reach.base_url, max_retries=0, http_client=client
        )
        return sdk, (openai.APIConnectionError,)

    def send(self, sdk: Any, question: Question) -> object:
        """Ask the question; what the SDK makes of the reply is not looked at."""
        found: object = sdk.chat.completions.with_raw_response.create(**self.request(question))
        return found

    def answer(self, told: Told, question: Question) -> Answer | None:
        """The answer in a completion's JSON; None where it is no completion."""
        try:
            reply = _Completion.model_validate(told)
        except ValidationError:
            return None
        if not reply.choices:
            return None
        first = reply.choices[0]
        refused = first.message.refusal is not None
        return self.finish(
            first.message.content or first.message.refusal or "",
            question,
            "refusal" if refused else first.finish_reason,
            model=reply.model or self.model,
            usage=_usage(dig(told, "usage")),
            request_id=reply.id,
        )

    def json_in(self, raw: str) -> str:
        """From the first brace to the last: some servers put a fence or a sentence around it."""
        begin, end = raw.find("{"), raw.rfind("}")
        return raw[begin : end + 1] if 0 <= begin < end else raw

    def meaning(self, status: int, told: Told) -> Kind:
        """What an error means: a spent quota comes with the status of a rate limit."""
        if dig(told, "error", "code") == "insufficient_quota" or dig(told, "error", "type") == "insufficient_quota":
            return "spend_limit", f"insufficient_quota: {dig_message(told)[:200]}"
        if dig(told, "error", "code") == "account_deactivated":
            return "account_disabled", f"account_deactivated: {dig_message(told)[:200]}"
        return plain_status(status, told)

    def stop(self, reason: str | None, category: object = None) -> Stop:
        """What a finish reason means; a server that gives none has come to its end."""
        outcome = _STOPS.get(reason or "stop", "invalid")
        return outcome, None if outcome == "ok" else f"it stopped with {reason}"

    def inquire(self, sdk: Any) -> object:
        """Ask which models the server has."""
        found: object = sdk.models.with_raw_response.list()
        return found

    def described(self, told: Told) -> Model:
        """The model among those that the server lists."""
        there = [str(dig(one, "id")) for one in dig(told, "data") or []]
        if self.model in there:
            return Model(self.model, "active")
        return Model(self.model, "retired", f"the server has {', '.join(there[:5]) or 'no model'}")


def _usage(told: object) -> Usage:
    """Cached tokens are part of the prompt's count."""
    cached = count(dig(told, "prompt_tokens_details", "cached_tokens"))
    return Usage(
        input_tokens=max(count(dig(told, "prompt_tokens")) - cached, 0),
        output_tokens=count(dig(told, "completion_tokens")),
        cached_tokens=cached,
    )
