"""OpenAI's chat completions on the loopback, as compatible servers speak them."""

from typing import Any, ClassVar

from tests.servers.provider import OUTPUT_TOKENS, Provider, Reply, tokens, trace

_ERRORS = {
    "401": (401, "invalid_api_key", "Incorrect API key provided"),
    "403": (403, "permission_denied", "You may not use this"),
    "404": (404, "model_not_found", "The model does not exist"),
    "400": (400, "invalid_request", "This is not a request"),
    "413": (413, "too_large", "The request is too large"),
    "credit": (403, "unsupported_country_region_territory", "Country, region, or territory not supported"),
    "parameter": (400, "invalid_value", "max_tokens is too large: 3000. This model supports at most 2048 tokens"),
    "account disabled": (403, "account_deactivated", "This account is deactivated"),
    "500": (500, "server_error", "The server had an error"),
    "529": (503, "overloaded", "The engine is overloaded"),
    "429": (429, "rate_limit_exceeded", "Rate limit reached"),
    "429 retry-after": (429, "rate_limit_exceeded", "Rate limit reached"),
    "429 for an hour": (429, "rate_limit_exceeded", "Rate limit reached"),
    "spend limit": (429, "insufficient_quota", "You exceeded your current quota"),
}
_WAITS = {"429 retry-after": "0.2", "429 for an hour": "3600"}


class OpenAIWire(Provider):
    """A server with one model, whose prices are two micro-dollars a token in and ten out."""

    rates: ClassVar[dict[str, float]] = {"input": 2.0, "output": 10.0}
    model = "qwen3:4b"

    def answer(self, method: str, path: str, query: dict[str, str], asked: Any) -> Reply | None:
        if path == "/v1/models":
            return 200, {}, {"object": "list", "data": [{"id": self.model, "object": "model"}]}
        return None

    def message(self, asked: Any, how: str | None, batch: bool) -> tuple[Any, dict[str, int]]:
        said = asked["messages"][1]["content"]
        text: str | None = trace(said, how, self.verdict)
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if how == "refusal":
            message = {"role": "assistant", "content": None, "refusal": "I will not judge this."}
        stop = {"max tokens": "length", "blocked": "content_filter"}.get(how or "", "stop")
        usage = {"input": sum(tokens(one["content"]) for one in asked["messages"]), "output": OUTPUT_TOKENS}
        reply = {
            "id": f"chatcmpl-{self.books.requests}",
            "object": "chat.completion",
            "model": asked["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": stop}],
            "usage": {"prompt_tokens": usage["input"], "completion_tokens": usage["output"]},
        }
        if how == "no count":
            del reply["usage"]["completion_tokens"]
        return ({"foo": 1} if how == "wrong frame" else reply), usage

    def error(self, fault: str) -> Reply:
        status, code, message = _ERRORS[fault]
        headers = {"retry-after": _WAITS[fault]} if fault in _WAITS else {}
        return status, headers, {"error": {"message": message, "type": code, "code": code}}
