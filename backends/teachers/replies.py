"""Turns replies into outcomes: the part that is the same for all providers. Sends nothing."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from wizloop.backends.http.exchange import Exchange, dig
from wizloop.backends.teachers.base import MAX_TOKENS, MAX_WAIT_S, Billed, Limits, Outcome
from wizloop.backends.teachers.rejections import REJECTED, error_message, forbidden, is_spent, rejection

MAX_RAW = 20_000
"""Characters kept of a reply that is not an answer."""
_ANSWERS = ("choices", "content", "candidates")
"""What the providers' replies hold an answer in."""
_KINDS = {
    **{"invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403},
    **{"not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429, "api_error": 500},
    **{"timeout_error": 504, "overloaded_error": 529, "rate_limit_exceeded": 429, "insufficient_quota": 429},
    **{"invalid_argument": 400, "failed_precondition": 400, "unauthenticated": 401, "permission_denied": 403},
    **{"not_found": 404, "resource_exhausted": 429, "internal": 500, "unavailable": 503, "deadline_exceeded": 504},
    **{"model_not_found": 404, "invalid_api_key": 401, "server_error": 500},
}
"""Statuses by the names that providers give to kinds of errors."""
_GRPC = {3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 9: 400, 13: 500, 14: 503, 16: 401}
"""Statuses by the codes of gRPC, which a batch's rows have."""
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_TAGS = re.compile(r"<(script|style|head)\b.*?</\1\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL)
_MOST_OF_A_PAGE = 10_000
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

Body = Mapping[str, Any]
"""The JSON object of a reply."""
Fault = tuple[Outcome, str]
"""An outcome and its category."""
OfStatus = Callable[[int, Body], Fault]
"""A provider's meaning of an HTTP status and the JSON that came with it."""


def fault_of(exchange: Exchange, of_status: OfStatus, *, lines: bool = False) -> tuple[Fault, Billed] | None:
    """Return what is wrong with a reply before its content is read; None if it is complete, status 200 and JSON.

    With `lines` the body is many lines, which the caller parses, and not one JSON object. "unknown" as billed: a
    request that broke off after it was sent, or whose reply is not JSON, may have been charged.
    """
    status = exchange.status
    if exchange.fault is not None:
        unbilled = not exchange.sent or status not in (None, 200)
        return ("overloaded", exchange.fault), "no" if unbilled else "unknown"
    body = None if lines and status == 200 else exchange.json()
    if status == 200:
        return None if lines or body is not None else (_bad_body(exchange), "unknown")
    if status is not None and 300 <= status < 400:
        return ("overloaded", f"status {status}: a redirect, which is not followed"), "no"
    return of_status(status or 0, body or {"message": _sentence(exchange.text)}), "no"


def error_inside(body: Body, of_status: OfStatus) -> Fault | None:
    """Return what an error means that arrived with the status 200; None for a body without one, or with an answer."""
    if any(body.get(name) for name in _ANSWERS):
        return None
    return of_error(body, of_status) if body.get("error") or error_message(body) else None


def of_error(body: Body, of_status: OfStatus) -> Fault:
    """Return what an error means by its code, or the name of its kind: it came without an HTTP status of its own."""
    status = _status_of(body)
    if status is not None:
        return of_status(status, body)
    outcome, category = rejection(400, body)
    unknown = outcome == "blocked" and category.startswith(REJECTED)
    return ("overloaded", f"an error without a code: {error_message(body)[:300]}") if unknown else (outcome, category)


def _status_of(body: Body) -> int | None:
    for name in ("code", "status", "type"):
        found = dig(body, "error", name)
        if isinstance(found, int | str) and re.fullmatch(r"\d{1,3}", str(found)):
            status = _GRPC.get(int(found), int(found))
            return status if status >= 400 else None
        if isinstance(found, str) and found.casefold() in _KINDS:
            return _KINDS[found.casefold()]
    return None


def plain_status(status: int, body: Body) -> Fault:
    """Return the meaning of a status that the provider has not redefined."""
    message = error_message(body)[:300]
    named = f"status {status}{f': {message}' if message else ''}"
    if status == 401:
        return "unauthorised", named
    if status == 403:
        return forbidden(body), named
    if status == 402:
        return "spend_limit", named
    if status in (404, 405, 410):
        return "unauthorised", f"{named} (is the model or the address right?)"
    if status == 429:
        return "spend_limit" if is_spent(body) else "rate_limited", named
    if status < 400 or status in (408, 409, 425) or status >= 500:
        return "overloaded", named
    return rejection(status, body)


def request_id(headers: Body) -> str | None:
    """Return the provider's id of the request, by its headers."""
    return headers.get("request-id") or headers.get("x-request-id")


def retry_after_s(headers: Body) -> float | None:
    """Return the seconds that headers ask to wait before the next try, a week at most, or None."""
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    value = headers.get("retry-after", "")
    seconds = _number(value)
    return _bounded(seconds) if seconds is not None else _until(_time(value, parsedate_to_datetime), headers)


def limits(headers: Body, requests: str, tokens: str) -> Limits | None:
    """Return what is left of two limits, by their headers' name patterns, such as "x-ratelimit-{}-requests"."""
    left = [_whole(headers.get(name.format("remaining"))) for name in (requests, tokens)]
    resets = [_reset_s(headers.get(name.format("reset")), headers) for name in (requests, tokens)]
    if left == [None, None]:
        return None
    return Limits(left[0], resets[0], left[1], resets[1])


def duration_s(value: object) -> float | None:
    """Return the seconds of a duration such as "1.5s", "6m0s" or "250ms"; None for anything else."""
    parts = _DURATION.findall(value) if isinstance(value, str) else []
    return _bounded(sum(float(number) * _SECONDS[unit] for number, unit in parts)) if parts else None


def count(value: object) -> int:
    """Return a token count in parsed JSON; 0 for anything else, and for a count that cannot be true."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_TOKENS else 0


def _sentence(text: str) -> str:
    """Return what an error that is no JSON says: the words of a page, without its tags."""
    return " ".join(_TAGS.sub(" ", text[:_MOST_OF_A_PAGE]).split())[:200]


def _bad_body(exchange: Exchange) -> Fault:
    kind = exchange.headers.get("content-type", "no content type").split(";")[0]
    return "overloaded", f"bad body: {len(exchange.body)} bytes that are no JSON object ({kind})"


def _number(value: str) -> float | None:
    return float(value) if re.fullmatch(r"\d{1,12}(\.\d{1,6})?", value.strip()) else None


def _whole(value: str | None) -> int | None:
    return int(value) if value is not None and re.fullmatch(r"\d{1,12}", value.strip()) else None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), MAX_WAIT_S)


def _reset_s(value: str | None, headers: Body) -> float | None:
    """Return the seconds until a reset, which is given as a time or as a duration."""
    if value is None:
        return None
    seconds = _until(_time(value, datetime.fromisoformat), headers)
    return duration_s(value) if seconds is None else seconds


def _until(time: datetime | None, headers: Body) -> float | None:
    """Return the seconds until a time by the provider's own clock; None if either is missing."""
    now = _time(headers.get("date", ""), parsedate_to_datetime)
    return None if time is None or now is None else _bounded((time - now).total_seconds())


def _time(value: str, parse: Callable[[str], datetime]) -> datetime | None:
    try:
        found = parse(value)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
