"""What came back over the wire, in the words of Outcome: the part that is alike for all providers. It sends nothing."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from wizloop.backends.http.exchange import Exchange
from wizloop.backends.teachers.base import Answer, Billed, Limits, Outcome, Question, Usage, answer_from_raw

MOST_RAW = 20_000
"""Characters that are kept of a reply that is no answer."""
MOST_WAIT_S = 7 * 86_400.0
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

Told = Mapping[str, Any]
Kind = tuple[Outcome, str]
OfStatus = Callable[[int, Told], Kind]
"""What a provider means by an HTTP status and the JSON body that came with it."""


def fault_of(
    exchange: Exchange, model: str, of_status: OfStatus, *, paid: bool = True, lines: bool = False
) -> Answer | None:
    """What is wrong with a reply before its content is looked at; None where it came whole, with status 200, as JSON.

    `lines`: it is not one JSON object but many lines, which the caller reads.

    Nobody knows whether a provider bills what broke off after it was sent, or what came back as no JSON.
    """
    unknown: Billed = "unknown" if paid else "no"
    if exchange.fault is not None:
        done = exchange.status is not None and exchange.status != 200
        return _fault(exchange, model, ("overloaded", exchange.fault), "no" if done or not exchange.sent else unknown)
    if exchange.status == 200:
        return None if lines or exchange.told() is not None else _fault(exchange, model, _bad_body(exchange), unknown)
    status = exchange.status or 0
    if 300 <= status < 400:
        return _fault(exchange, model, ("overloaded", f"status {status}: a redirect, which is not followed"), "no")
    return _fault(exchange, model, of_status(status, exchange.told() or {}), "no")


def plain_status(status: int, told: Told) -> Kind:
    """The meaning of a status that a provider has given no other one."""
    word = str(dig_message(told))[:200]
    named = f"status {status}{f': {word}' if word else ''}"
    if status in (401, 403):
        return "unauthorised", named
    if status == 402:
        return "spend_limit", named
    if status == 404:
        return "unauthorised", f"{named} (is the model or the address right?)"
    if status == 429:
        return "rate_limited", named
    if status in (408, 409, 425) or status >= 500:
        return "overloaded", named
    return "blocked", f"the request was not accepted: {named}"


def dig_message(told: Told) -> str:
    """The sentence in a provider's error, or nothing."""
    error = told.get("error")
    message = error.get("message") if isinstance(error, dict) else error if isinstance(error, str) else None
    return message if isinstance(message, str) else ""


def bad_frame(exchange: Exchange, model: str, what: str) -> Answer:
    """A reply that is JSON and not what the provider's answers look like: billed, by nobody knows how many tokens."""
    return Answer("invalid", exchange.text[:MOST_RAW], model, category=f"the reply has no {what}")


def finished(raw: str, question: Question, stop: tuple[Outcome, str | None], **known: Any) -> Answer:
    """The answer for a text and what its stop reason means; `known` are model, usage, request_id, stop_reason."""
    outcome, category = stop
    if outcome == "ok":
        return answer_from_raw(raw, question, **known)
    return Answer(outcome, raw, category=category, **known)


def waits(headers: Told) -> float | None:
    """Seconds that a provider's headers ask for before the next try, a week at most; None where they ask for none."""
    milliseconds = headers.get("retry-after-ms", "")
    if _number(milliseconds) is not None:
        return _bounded(float(milliseconds) / 1000)
    said = headers.get("retry-after", "")
    seconds = _number(said)
    if seconds is not None:
        return _bounded(seconds)
    until, now = _http_date(said), _http_date(headers.get("date", ""))
    return None if until is None or now is None else _bounded((until - now).total_seconds())


def limits(headers: Told, requests: str, tokens: str) -> Limits | None:
    """What is left of two limits, by the beginnings of their headers' names, such as "x-ratelimit-{}-requests"."""
    left = [_whole(headers.get(name.format("remaining"))) for name in (requests, tokens)]
    resets = [_reset_s(headers.get(name.format("reset")), headers) for name in (requests, tokens)]
    if left == [None, None]:
        return None
    return Limits(left[0], resets[0], left[1], resets[1])


def duration_s(said: object) -> float | None:
    """Seconds in a duration such as "1.5s", "6m0s" or "250ms"; None for anything else."""
    parts = _DURATION.findall(said) if isinstance(said, str) else []
    return sum(float(number) * _SECONDS[unit] for number, unit in parts) if parts else None


def row_of(line: str) -> dict[str, Any] | None:
    """One line of results, or None where it is no JSON object."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def count(told: object) -> int:
    """A number of tokens in parsed JSON; 0 for anything that is none."""
    return told if isinstance(told, int) and not isinstance(told, bool) and told > 0 else 0


def _fault(exchange: Exchange, model: str, kind: Kind, billed: Billed) -> Answer:
    return Answer(
        kind[0],
        exchange.text[:MOST_RAW],
        model,
        usage=Usage(),
        request_id=exchange.headers.get("request-id") or exchange.headers.get("x-request-id"),
        stop_reason=None if exchange.status is None else f"status {exchange.status}",
        category=kind[1],
        billed=billed,
        retry_after_s=waits(exchange.headers),
    )


def _bad_body(exchange: Exchange) -> Kind:
    said = exchange.headers.get("content-type", "no content type").split(";")[0]
    return "overloaded", f"bad body: {len(exchange.body)} bytes that are no JSON object ({said})"


def _number(said: str) -> float | None:
    return float(said) if re.fullmatch(r"\d{1,12}(\.\d{1,6})?", said.strip()) else None


def _whole(said: str | None) -> int | None:
    return int(said) if said is not None and re.fullmatch(r"\d{1,12}", said.strip()) else None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), MOST_WAIT_S)


def _reset_s(said: str | None, headers: Told) -> float | None:
    """Seconds until a reset that is told as a moment or as a duration."""
    if said is None:
        return None
    moment, now = _moment(said), _http_date(headers.get("date", ""))
    if moment is not None and now is not None:
        return _bounded((moment - now).total_seconds())
    return duration_s(said)


def _moment(said: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(said)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _http_date(said: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(said)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
