"""Whose fault a rejected request is, by the providers' documented words: the account's, a parameter's, or the sample's.

Words come from the error pages and bug reports of Anthropic, Google, OpenAI, Azure, OpenRouter, DeepSeek, Mistral, vLLM
and LM Studio. What none of them covers is `REJECTED`: held to be the sample's, until several samples fail alike.
"""

import re
from collections.abc import Mapping
from typing import Any

from wizloop.backends.http.exchange import dig, list_at, text_at
from wizloop.backends.teachers.base import Outcome

REJECTED = "the request was not accepted"
TOO_LONG = f"{REJECTED}, it is too long"
FILTERED = "the provider's filter took it"
_SPENT = ("reached your specified", "spending cap", "spend cap", "spend limit", "spending limit")
_FILTER = (
    *("content_filter", "content filter", "content management policy", "content policy", "content_policy"),
    *("responsibleaipolicyviolation", "invalid_prompt", "flagged", "usage policy", "safety system", "data_inspection"),
)
_LENGTH = (
    *("context length", "context_length", "context limit", "context window", "context size", "prompt is too long"),
    *("too many tokens", "maximum context", "input token count", "input is too long", "request_too_large"),
    *("payload size exceeds", "string_above_max_length", "exceeds the maximum size", "reduce the length"),
)
_REGION = ("location is not supported", "country, region", "unsupported_country", "not available in your country")
_KEY = ("api key", "api_key", "apikey", "x-api-key")
_ACCOUNT = (
    *("credit balance", "purchase credits", "insufficient balance", "insufficient_quota", "insufficient credits"),
    *("billing", "payment", "arrears", "subscription", "failed_precondition", "verify your organization"),
    *("must be verified", "quota exceeded", "no credits", "free credits", "free tier", "freetier", "top up"),
    *(
        "upgrade your plan",
        "upgrade to",
        "paid users",
        "suspended",
        "deactivated",
        "has been disabled",
        "access terminated",
    ),
    *("account is not active", "firewall", "access denied", "only authorized for use"),
)
_PARAMETER = (
    *("unsupported parameter", "unsupported value", "unsupported_parameter", "unsupported_value", "unknown parameter"),
    *("unrecognized request argument", "unknown_parameter", "extra inputs are not permitted", "unknown name"),
    *("extra fields not permitted", "response_format", "json_schema", "json schema", "schema", "output_config"),
    *("structured output", "json mode", "is not supported", "not supported with", "does not support"),
    *("is deprecated for this model", "max_tokens", "max_completion_tokens", "maxoutputtokens", "temperature"),
    *("thinking", "reasoning_effort", "effort", "model_not_found", "does not exist", "not a valid model"),
    *("invalid model", "unknown model", "model not exist", "no endpoints found", "unknown field", "not supported"),
    *("system role", "roles must alternate", "is not enabled for", "no longer available", "no longer supported"),
    *("decommissioned", "has been retired", "has been deprecated"),
)
_NO_MODEL = re.compile(r"\bmodels?\b.{0,100}\b(?:not found|unavailable|unsupported|retired|discontinued|deprecated)\b")
_INPUT = ("messages", "prompt", "input", "contents")
"""What a sample stands in: an error about it is no error of a setting."""


_OTHER_PLACES = (
    *(("detail", "msg"), ("detail", "message"), ("msg",), ("error_msg",), ("base_resp", "status_msg")),
    *(("fault", "faultstring"), ("header", "message")),
)
"""Where a few providers write the sentence of an error."""


def rejection(status: int, body: Mapping[str, Any]) -> tuple[Outcome, str]:
    """Return what a rejected request (a status of 400 and above that no other rule knows) means, and its category."""
    message, words = error_message(body), _words(body)
    named = f"status {status}{f': {message[:300]}' if message else ''}"
    if parameter := parameter_of(body):
        named += "" if parameter in message else f" (parameter {parameter})"
    if _has(words, _FILTER):
        return "blocked", f"{FILTERED}: {named}"
    if status == 413 or _has(words, _LENGTH):
        return "blocked", f"{TOO_LONG}: {named}"
    if _has(words, _SPENT):
        return "spend_limit", named
    if _has(words, _REGION) or _has(words, _ACCOUNT):
        return "account", named
    if _has(words, _KEY):
        return "unauthorised", named
    if parameter or _has(words, _PARAMETER) or _NO_MODEL.search(words):
        return "parameter", named
    return "blocked", f"{REJECTED}: {named}"


def forbidden(body: Mapping[str, Any]) -> Outcome:
    """Return what a status of 403 means: a filter in front of the model, the account or its region, or else the key."""
    words = _words(body)
    return "blocked" if _has(words, _FILTER) else "account" if _has(words, _REGION + _ACCOUNT) else "unauthorised"


def is_spent(body: Mapping[str, Any]) -> bool:
    """Return whether an error says that a limit of spending is reached, which may come with a rate limit's status."""
    return _has(_words(body), _SPENT)


def error_message(body: Mapping[str, Any]) -> str:
    """Return the sentence of a provider's error, or an empty string.

    A broker's "Provider returned error" is followed by what the provider behind it said.
    """
    error = body.get("error") or dig(body, "errors", 0)
    behind = text_at(error, "metadata", "raw")
    found = [text_at(error, "message"), behind, error, body.get("message"), body.get("detail")]
    found += [text_at(each, "msg") for each in list_at(body, "detail")]
    found += [text_at(body, *path) for path in _OTHER_PLACES]
    said = [" ".join(text.split()) for text in found if isinstance(text, str) and text.strip()]
    return ": ".join(said[:2]) if behind else said[0] if said else ""


def parameter_of(body: Mapping[str, Any]) -> str | None:
    """Return the parameter that an error names, unless it is the sample's own text."""
    named = text_at(body, "error", "param") or text_at(body, "param")
    place = [str(part) for part in list_at(body, "detail", 0, "loc") if part != "body"]
    named = named or ".".join(place)
    return named[:80] if named and not named.casefold().startswith(_INPUT) else None


def alike(category: str) -> str:
    """Return a category without what differs from sample to sample: numbers and ids."""
    return re.sub(r"[0-9a-f]*\d[0-9a-f-]*", "#", category.casefold())


def _words(body: Mapping[str, Any]) -> str:
    """Return an error's sentence, codes and kinds, in small letters."""
    error = body.get("error") or dig(body, "errors", 0)
    codes = [dig(error, name) for name in ("code", "type", "status")] + [body.get("code"), body.get("type")]
    codes += [dig(error, "innererror", "code"), "flagged" if dig(error, "metadata", "flagged_input") else ""]
    return " ".join([error_message(body), *(str(code) for code in codes if code)]).casefold()


def _has(words: str, some: tuple[str, ...]) -> bool:
    return any(one in words for one in some)
