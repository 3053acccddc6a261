"""Any server that speaks OpenAI's chat completions as a teacher: Ollama, vLLM, mlx_lm.server, or a paid one.

Some servers enforce a schema and some ignore it: the instruction repeats the schema, and JSON is searched inside the
text. A text that was cut off is never repaired.
"""

import json
from typing import Any, ClassVar

from pydantic import SecretStr

from wizloop.backends.http.exchange import dig, list_at, text_at
from wizloop.backends.teachers import prompt as teacher_prompt
from wizloop.backends.teachers.base import Answer, Outcome, Question, Usage
from wizloop.backends.teachers.remote import Access, ModelInfo, RemoteTeacher, Stop
from wizloop.backends.teachers.replies import Body, Fault, count, error_message, plain_status

_STOPS: dict[str, Outcome] = {
    "stop": "ok",
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
        self._instruction = (
            f"{access.instruction}\n\nThe schema of the JSON object:\n{json.dumps(teacher_prompt.schema())}"
        )

    def worst_usage(self, question: Question) -> Usage:
        """Return a token for each byte of the sample, and an answer of full length."""
        # A private server's own counts are not trusted.
        return teacher_prompt.worst_usage(self._instruction, question, self.max_tokens(question))

    def request(self, question: Question) -> dict[str, Any]:
        """Return the body of the request for a question, as it can be shown."""
        schema = {"name": "trace", "strict": True, "schema": teacher_prompt.schema()}
        return {
            "model": self.model,
            "max_tokens": self.max_tokens(question),
            "messages": [
                {"role": "system", "content": self._instruction},
                {"role": "user", "content": teacher_prompt.message(question)},
            ],
            "response_format": {"type": "json_schema", "json_schema": schema},
        }

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
        message = dig(body, "choices", 0, "message")
        if not isinstance(message, dict):
            return None
        refusal = text_at(message, "refusal")
        return self.finish(
            text_at(message, "content") or refusal or "",
            question,
            text_at(body, "choices", 0, "finish_reason") if refusal is None else "refusal",
            model=text_at(body, "model") or self.model,
            usage=_usage(dig(body, "usage")),
            request_id=text_at(body, "id"),
        )

    def json_in(self, raw: str) -> str:
        """Return the text from the first brace to the last: some servers put a fence or a sentence around it."""
        begin, end = raw.find("{"), raw.rfind("}")
        return raw[begin : end + 1] if 0 <= begin < end else raw

    def error(self, status: int, body: Body) -> Fault:
        """Return the meaning of an error: a spent quota arrives with the status of a rate limit."""
        if dig(body, "error", "code") == "insufficient_quota" or dig(body, "error", "type") == "insufficient_quota":
            return "spend_limit", f"insufficient_quota: {error_message(body)[:200]}"
        if dig(body, "error", "code") == "account_deactivated":
            return "account_disabled", f"account_deactivated: {error_message(body)[:200]}"
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


def _usage(usage: object) -> Usage:
    """Read a usage, whose prompt tokens include the cached ones."""
    cached = count(dig(usage, "prompt_tokens_details", "cached_tokens"))
    return Usage(
        input_tokens=max(count(dig(usage, "prompt_tokens")) - cached, 0),
        output_tokens=count(dig(usage, "completion_tokens")),
        cached_tokens=cached,
    )
