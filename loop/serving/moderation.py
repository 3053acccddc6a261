"""OpenAI's moderation shape: the texts of a request, and a guard's verdicts as its answer.

A request is hostile: it is bounded, parsed strictly, and nothing of it but its texts is used.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from wizloop.loop.data.sample_rows import MAX_TEXT
from wizloop.loop.data.strict_json import Malformed, Parser
from wizloop.loop.words import DEFAULT, Declaration

if TYPE_CHECKING:
    from wizloop.loop.api import Verdict

MOST_TEXTS = 64
"""Texts per request."""
MOST_BYTES = 8_000_000
"""Bytes of a request's body: the longest text that can be imported, however it is escaped."""


class Refused(ValueError):
    """A request that cannot be answered, with the status and the field that say why."""

    def __init__(self, status: HTTPStatus, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.field = status, field

    def to_json(self) -> dict[str, Any]:
        """Return the error as OpenAI words it."""
        return error_of(self.status, str(self), self.field)


def error_of(status: int, message: str, field: str | None = None) -> dict[str, Any]:
    """Return an error's body."""
    kind = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": field, "code": None}}


def texts_of(body: bytes) -> list[str]:
    """Return the texts of a request's body. Raises Refused."""
    try:
        request = Parser().whole(body.decode().strip(" \t\r\n"))
    except UnicodeDecodeError:
        raise Refused(HTTPStatus.BAD_REQUEST, "the body is not UTF-8") from None
    except Malformed as error:
        raise Refused(HTTPStatus.BAD_REQUEST, f"unusable body: {error}") from None
    if not isinstance(request, dict):
        raise Refused(HTTPStatus.BAD_REQUEST, "the body must be a JSON object with `input`")
    if not isinstance(request.get("model"), str | None):
        raise Refused(HTTPStatus.BAD_REQUEST, "`model` must be a string", "model")
    given = request.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts:
        raise Refused(HTTPStatus.BAD_REQUEST, "`input` must be a string or a list of strings", "input")
    if len(texts) > MOST_TEXTS:
        raise Refused(HTTPStatus.BAD_REQUEST, f"`input` may hold at most {MOST_TEXTS} texts", "input")
    return [_checked(text) for text in texts]


def _checked(text: Any) -> str:
    """Return a text that can be judged and stored. Raises Refused."""
    if not isinstance(text, str):
        raise Refused(HTTPStatus.BAD_REQUEST, "`input` must be a string or a list of strings", "input")
    if not text.strip():
        raise Refused(HTTPStatus.BAD_REQUEST, "a text of `input` is empty", "input")
    if "\0" in text:
        raise Refused(HTTPStatus.BAD_REQUEST, "a text of `input` holds a NUL character", "input")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise Refused(HTTPStatus.BAD_REQUEST, "a text of `input` holds a lone surrogate", "input") from None
    if size > MAX_TEXT:
        message = f"a text of `input` is larger than {MAX_TEXT:,} bytes"
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message, "input")
    return text


def answer(
    number: str, model: Mapping[str, Any], verdicts: Sequence["Verdict"], declared: Declaration = DEFAULT
) -> dict[str, Any]:
    """Return the answer to a request: OpenAI's fields, and the guard's own in `wizloop`."""
    known = {key: model[key] for key in ("sha256", "calibration")}
    results = [{**_result(one, declared), "wizloop": {**_own(one), **known}} for one in verdicts]
    return {"id": number, "model": model["name"], "results": results}


def _result(one: "Verdict", declared: Declaration) -> dict[str, Any]:
    """Return OpenAI's fields, with the positive label as a category beside those that the guard names.

    A label that blocks is flagged, and a text without a readable verdict, which has no score.
    """
    category = declared.positive("request")
    flagged = not declared.passes("request", one.verdict["request"])
    known, scores = one.probability.get("request"), one.category_probability
    return {
        "flagged": flagged,
        "categories": {**{name: name in (one.categories or ()) for name in scores}, category: flagged},
        "category_scores": {**scores, **({} if known is None else {category: known})},
        "category_applied_input_types": {name: ["text"] for name in (*scores, category)},
    }


def _own(one: "Verdict") -> dict[str, Any]:
    """Return the verdict as `classify` prints it, of the one task that a text has."""
    return {
        "verdict": one.verdict["request"],
        "probability": one.probability.get("request"),
        "threshold": one.threshold.get("request"),
        "scale": one.scale.get("request"),
        "confidence": one.confidence,
        "cell": one.cell,
        "cut_tokens": one.cut_tokens,
        **({} if one.decision is None else {"decision": one.decision}),
    } | ({"policies": {policy: by["request"] for policy, by in one.policies.items()}} if one.policies else {})
