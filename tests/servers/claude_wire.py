"""Anthropic's wire format on the loopback: messages, message batches, models, errors."""

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from tests.servers.provider import OUTPUT_TOKENS, Provider, Reply, tokens, trace

ROW_FAULTS = ("expired", "errored", "canceled", "invalid request", "refusal", "wrong schema", "max tokens", "missing")
_ERRORS = {
    "401": (401, "authentication_error", "invalid x-api-key"),
    "403": (403, "permission_error", "Your API key may not use this resource."),
    "404": (404, "not_found_error", "model: claude-none-1"),
    "400": (400, "invalid_request_error", "messages: text content blocks must be non-empty"),
    "413": (413, "request_too_large", "Request exceeds the maximum size"),
    "credit": (400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
    "parameter": (400, "invalid_request_error", "max_tokens: 3000 > 2048, which is the maximum allowed number"),
    "account disabled": (400, "invalid_request_error", "This organization has been disabled."),
    "500": (500, "api_error", "Internal server error"),
    "529": (529, "overloaded_error", "Overloaded"),
}


class ClaudeServer(Provider):
    """Prices are those of claude-sonnet-5-5 in November 2026; a batch keeps its prefix for an hour."""

    rates: ClassVar[dict[str, float]] = {"input": 2.0, "output": 10.0, "cached": 0.1, "written": 2.5, "written 1h": 4.0}
    lifecycle = "active"

    def answer(self, method: str, path: str, query: dict[str, str], asked: Any) -> Reply | None:
        if path == "/v1/messages":
            return None
        if path.startswith("/v1/models/"):
            return 200, {}, {"type": "model", "id": path.split("/")[3], "lifecycle": self.lifecycle}
        if path == "/v1/messages/batches":
            return self._submit(asked) if method == "POST" else self._list(query)
        batch = self.books.batches.get(path.split("/")[4])
        if batch is None:
            return self.error("404")
        if path.endswith("/results"):
            return 200, {"content-type": "application/x-jsonl"}, _lines(batch["rows"])
        return 200, {}, _shown(batch)

    def message(self, asked: Any, how: str | None, batch: bool) -> tuple[Any, dict[str, int]]:
        said = asked["messages"][0]["content"]
        shared = tokens(asked["system"][0]["text"])
        cached = self.cached(asked["system"][0]["text"])
        text = "" if how == "refusal" else trace(said, how, self.verdict)
        stop = {"refusal": "refusal", "max tokens": "max_tokens"}.get(how or "", "end_turn")
        output = 3 if how == "refusal" else OUTPUT_TOKENS
        reply: dict[str, Any] = {
            "id": f"msg_{self.books.requests}",
            "type": "message",
            "role": "assistant",
            "model": asked["model"],
            "content": [{"type": "text", "text": text}] if text else [],
            "stop_reason": stop,
            "stop_details": {"type": "refusal", "category": "cyber"} if how == "refusal" else None,
            "usage": {
                "input_tokens": tokens(said),
                "output_tokens": output,
                "cache_read_input_tokens": shared if cached else 0,
                "cache_creation_input_tokens": 0 if cached else shared,
            },
        }
        if how == "no count":
            del reply["usage"]["output_tokens"]
        written = "written 1h" if batch else "written"
        usage = {"input": tokens(said), "output": output, "cached" if cached else written: shared}
        return ({"foo": 1} if how == "wrong frame" else reply), usage

    def error(self, fault: str) -> Reply:
        if fault.startswith("429"):
            wait = {"429 retry-after": "0.2", "429 for an hour": "3600"}.get(fault)
            return 429, {} if wait is None else {"retry-after": wait}, _error("rate_limit_error", "Too many requests")
        if fault == "spend limit":
            details = {"error_code": "enforced_spend_limit_reached"}
            return 429, {}, _error("rate_limit_error", "The monthly limit is reached", details)
        status, kind, message = _ERRORS[fault]
        return status, {}, _error(kind, message)

    def _submit(self, asked: Any) -> Reply:
        number = len(self.books.batches) + 1
        batch_id, now = f"msgbatch_{number:03d}", datetime.now(UTC)
        rows = [self._row(one) for one in asked["requests"]]
        self.books.batches[batch_id] = {
            "id": batch_id,
            "size": len(rows),
            "created": now,
            "ends": time.monotonic() + self.batch_s,
            "rows": [row for row in rows[::-1] if row is not None],
        }
        return 200, {}, _shown(self.books.batches[batch_id])

    def _row(self, asked: Any) -> dict[str, Any] | None:
        fault = self.draw("row")
        result: dict[str, Any] = {"type": fault}
        if fault == "missing":
            self.work(asked["params"], None, batch=True)
            return None
        if fault in ("errored", "invalid request"):
            kind = "invalid_request_error" if fault == "invalid request" else "api_error"
            result = {"type": "errored", "error": _error(kind, "This row did not work")}
        elif fault not in ("expired", "canceled"):
            result = {"type": "succeeded", "message": self.work(asked["params"], fault, batch=True)}
        return {"custom_id": asked["custom_id"], "result": result}

    def _list(self, query: dict[str, str]) -> Reply:
        held = sorted(self.books.batches.values(), key=lambda one: one["created"], reverse=True)
        after = query.get("after_id")
        at = 0 if after is None else [one["id"] for one in held].index(after) + 1
        page = held[at : at + min(int(query.get("limit", 20)), 2)]
        more = at + len(page) < len(held)
        last = page[-1]["id"] if page else None
        return 200, {}, {"data": [_shown(one) for one in page], "has_more": more, "first_id": None, "last_id": last}


def _shown(batch: dict[str, Any]) -> dict[str, Any]:
    ended = time.monotonic() >= batch["ends"]
    counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
    if ended:
        for row in batch["rows"]:
            counts[row["result"]["type"]] += 1
        # A row that is missing was answered.
        counts["succeeded"] += batch["size"] - len(batch["rows"])
    else:
        counts["processing"] = batch["size"]
    return {
        "id": batch["id"],
        "type": "message_batch",
        "processing_status": "ended" if ended else "in_progress",
        "request_counts": counts,
        "created_at": batch["created"].isoformat(),
        "expires_at": (batch["created"] + timedelta(days=1)).isoformat(),
        "ended_at": None,
        "archived_at": None,
        "cancel_initiated_at": None,
        "results_url": "http://127.0.0.2:1/elsewhere",
    }


def _error(kind: str, message: str, details: dict[str, str] | None = None) -> dict[str, Any]:
    error: dict[str, Any] = {"type": kind, "message": message}
    if details is not None:
        error["details"] = details
    return {"type": "error", "error": error, "request_id": "req_1"}


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()
