"""Errors in the providers' own words: which are the account's fault, which a parameter's, and which the sample's."""

from typing import Any

import pytest
from pydantic import SecretStr

from wizloop.backends.http.exchange import Exchange
from wizloop.backends.teachers.claude import Claude
from wizloop.backends.teachers.gemini import Gemini
from wizloop.backends.teachers.openai_server import OpenAIServer
from wizloop.backends.teachers.rejections import alike
from wizloop.backends.teachers.remote import Access, RemoteTeacher
from wizloop.backends.teachers.replies import error_inside, fault_of


def teacher(kind: str) -> RemoteTeacher:
    access = Access("m", "Judge the sample.", SecretStr("none"), "http://127.0.0.1:9")
    return OpenAIServer(access, paid=True) if kind == "openai" else {"claude": Claude, "gemini": Gemini}[kind](access)


def claude(message: str, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def gemini(message: str, status: str = "INVALID_ARGUMENT") -> dict[str, Any]:
    return {"error": {"code": 400, "message": message, "status": status}}


def openai(message: str, param: str | None = None, code: str | None = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


CREDIT = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade."
LIMIT = "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."
LENGTH = "This model's maximum context length is 4097 tokens. However, your messages resulted in 4301 tokens."
FILTER = "The response was filtered due to the prompt triggering the service's content management policy."
SIZE = "max_tokens: 64000 > 32000, which is the maximum allowed number of output tokens for the model"
ROOM = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
HEAT = "Unsupported value: 'temperature' does not support 0.1 with this model. Only the default (1) value is supported."
SPENT = {"error": {"message": "No credits are left", "type": "insufficient_quota", "code": "credit_balance_exhausted"}}
BROKER = {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": "no JSON mode here"}}}
FLAGGED = {"error": {"message": "It needs moderation", "code": 403, "metadata": {"flagged_input": "how"}}}
VLLM = {
    "object": "error",
    "message": "extra fields",
    "type": "BadRequestError",
    "param": "response_format",
    "code": 400,
}
FASTAPI = {"detail": [{"loc": ["body", "response_format"], "msg": "extra fields not permitted"}]}
KINDS = [
    ("claude", 400, claude(CREDIT), "account"),
    ("claude", 400, claude(LIMIT), "spend_limit"),
    ("claude", 400, claude("This organization has been disabled."), "account_disabled"),
    ("claude", 400, claude("output_config: Extra inputs are not permitted"), "parameter"),
    ("claude", 400, claude("`temperature` is deprecated for this model."), "parameter"),
    ("claude", 400, claude(SIZE), "parameter"),
    ("claude", 400, claude("prompt is too long: 210000 tokens > 200000 maximum"), "blocked"),
    ("claude", 400, claude("messages: text content blocks must be non-empty"), "blocked"),
    ("claude", 402, claude("Pay first", "billing_error"), "spend_limit"),
    ("claude", 404, claude("model: claude-none-1", "not_found_error"), "unauthorised"),
    ("claude", 413, claude("Request exceeds the maximum size", "request_too_large"), "blocked"),
    ("gemini", 400, gemini("User location is not supported for the API use.", "FAILED_PRECONDITION"), "account"),
    ("gemini", 400, gemini("The free tier is not available. Please enable it.", "FAILED_PRECONDITION"), "account"),
    ("gemini", 400, gemini("API key expired. Please renew the API key."), "unauthorised"),
    ("gemini", 400, gemini('Invalid JSON payload received. Unknown name "responseJsonSchema"'), "parameter"),
    ("gemini", 400, gemini("Thinking level is not supported for this model."), "parameter"),
    ("gemini", 400, gemini("The input token count (1100000) exceeds the maximum of 1048576."), "blocked"),
    ("gemini", 400, gemini("Request contains an invalid argument."), "blocked"),
    ("openai", 400, openai(ROOM, "max_tokens", "unsupported_parameter"), "parameter"),
    ("openai", 400, openai(HEAT, "temperature", "unsupported_value"), "parameter"),
    ("openai", 400, openai("This response_format type is unavailable now"), "parameter"),
    ("openai", 400, {"error": "'response_format.type' must be 'json_schema'"}, "parameter"),
    ("openai", 400, openai("The model does not exist", None, "model_not_found"), "parameter"),
    ("openai", 400, openai(LENGTH, "messages", "context_length_exceeded"), "blocked"),
    ("openai", 400, openai(FILTER, "prompt", "content_filter"), "blocked"),
    ("openai", 400, openai("Your prompt was flagged", None, "invalid_prompt"), "blocked"),
    ("openai", 400, VLLM, "parameter"),
    ("openai", 422, FASTAPI, "parameter"),
    ("openai", 400, openai("This is no request"), "blocked"),
    ("openai", 402, openai("Insufficient Balance"), "spend_limit"),
    ("openai", 403, openai("Country, region, or territory not supported", None, "unsupported_country"), "account"),
    ("openai", 403, FLAGGED, "blocked"),
    ("openai", 429, SPENT, "spend_limit"),
    ("openai", 400, BROKER, "parameter"),
    ("claude", 400, claude("The requested model claude-none-1 has been retired."), "parameter"),
    ("claude", 400, claude("This credential is only authorized for use with another product."), "account"),
    ("claude", 429, claude("This would exceed your account's monthly spend limit", "rate_limit_error"), "spend_limit"),
    ("claude", 429, claude("This would exceed your rate limit", "rate_limit_error"), "rate_limited"),
    ("gemini", 400, gemini("Developer instruction is not enabled for models/gemma-3"), "parameter"),
    ("gemini", 403, gemini("Consumer 'projects/1' has been suspended.", "PERMISSION_DENIED"), "account"),
    ("openai", 400, openai("The model `m` has been retired."), "parameter"),
    ("openai", 400, openai("m has been decommissioned and is no longer supported", None, "gone"), "parameter"),
    ("openai", 400, {"error": "model 'm:4b' not found, try pulling it first"}, "parameter"),
    ("openai", 400, openai("System role not supported"), "parameter"),
    ("openai", 400, openai("Conversation roles must alternate user/assistant/user/assistant/..."), "parameter"),
    ("openai", 400, openai("Your account is suspended"), "account"),
    ("openai", 400, openai("This model is only for paid users; upgrade your plan"), "account"),
    ("openai", 403, openai("The free tier is exhausted.", None, "AllocationQuota.FreeTierOnly"), "account"),
    ("openai", 403, openai("Access denied due to Firewall rules."), "account"),
    ("openai", 400, {"errors": [{"message": "no credits"}]}, "account"),
    ("openai", 400, {"title": "Bad Request", "detail": {"msg": "Top up first"}}, "account"),
    ("openai", 400, {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, "account"),
    ("openai", 400, {"fault": {"faultstring": "Invalid ApiKey"}}, "unauthorised"),
    ("openai", 405, {}, "unauthorised"),
    ("openai", 410, openai("This endpoint is gone"), "unauthorised"),
    ("openai", 400, openai("The words 'model' and 'sample' stand in no order that I know."), "blocked"),
]


@pytest.mark.parametrize(("kind", "status", "body", "outcome"), KINDS)
def test_an_error_is_told_by_the_providers_words(kind: str, status: int, body: dict[str, Any], outcome: str) -> None:
    assert teacher(kind).error(status, body)[0] == outcome


def test_the_providers_sentence_is_kept() -> None:
    assert CREDIT in teacher("claude").error(400, claude(CREDIT))[1]
    assert "no JSON mode here" in teacher("openai").error(400, BROKER)[1]
    assert "(parameter temperature)" in teacher("openai").error(400, openai("Not here", "temperature"))[1]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"choices": None, "error": {"message": "slow down", "code": 429}}, "rate_limited"),
        ({"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, "rate_limited"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "overloaded"),
        ({"type": "error", "error": {"type": "invalid_request_error", "message": CREDIT}}, "account"),
        ({"error": {"message": "credit balance is gone"}}, "account"),
        ({"error": {"message": "something"}}, "overloaded"),
        ({"error": {"code": 10**30, "message": "something"}}, "overloaded"),
        ({"error": {"code": 0, "message": "something"}}, "overloaded"),
        ({"error": {"code": 200, "message": "something"}}, "overloaded"),
        ({"choices": None, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, "account"),
        ({"status": "error", "message": "Insufficient credits"}, "account"),
        ({"detail": "Try later"}, "overloaded"),
    ],
)
def test_an_error_inside_a_reply_of_status_200_is_an_error(body: dict[str, Any], found: str) -> None:
    fault = error_inside(body, teacher("openai").error)
    assert fault is not None
    assert fault[0] == found


@pytest.mark.parametrize("body", [{}, {"error": None}, {"choices": [{"message": {}}], "error": {"code": 429}}])
def test_a_reply_with_an_answer_has_no_error_inside(body: dict[str, Any]) -> None:
    assert error_inside(body, teacher("openai").error) is None


def test_rows_are_alike_whatever_numbers_and_ids_they_have() -> None:
    assert alike("status 400: Bad thing 17 (request 0af3-11)") == alike("status 400: bad thing 4 (request 9c-27a)")
    assert alike("status 400: bad thing") != alike("status 400: another thing")


PAGE = b"<html><head><style>b {}</style></head><body><script>go()</script><b>Insufficient</b>\n credits</body></html>"


@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [
        (400, PAGE, ("account", "status 400: Insufficient credits")),
        (400, b"model m not found", ("parameter", "status 400: model m not found")),
        (502, b"<h1>Bad Gateway</h1>", ("overloaded", "status 502: Bad Gateway")),
        (403, b"\xff<not closed", ("unauthorised", "status 403: \ufffd<not closed")),
        (204, b"", ("overloaded", "status 204")),
    ],
)
def test_an_error_that_is_no_json_is_told_in_its_own_words(status: int, body: bytes, fault: tuple[str, str]) -> None:
    assert fault_of(Exchange(0.0, 10**6, status=status, body=body), teacher("openai").error) == (fault, "no")
