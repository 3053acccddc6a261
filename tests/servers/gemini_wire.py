"""Google's wire format on the loopback: generateContent, batch jobs, files with resumable uploads, models, errors."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ClassVar

from tests.servers.provider import OUTPUT_TOKENS, Provider, Reply, tokens, trace

ROW_FAULTS = ("errored", "invalid request", "refusal", "wrong schema", "max tokens", "missing")
THOUGHTS = 50
_ERRORS = {
    "401": (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", "API_KEY_INVALID"),
    "403": (403, "PERMISSION_DENIED", "The caller does not have permission", ""),
    "404": (404, "NOT_FOUND", "models/gemini-none is not found", ""),
    "400": (400, "INVALID_ARGUMENT", "Request contains an invalid argument.", ""),
    "413": (413, "INVALID_ARGUMENT", "Request payload size exceeds the limit", ""),
    "credit": (400, "FAILED_PRECONDITION", "User location is not supported for the API use.", ""),
    "parameter": (400, "INVALID_ARGUMENT", "it has a maxOutputTokens value of 3000, which is out of range", ""),
    "account disabled": (403, "PERMISSION_DENIED", "Consumer has been suspended.", "CONSUMER_SUSPENDED"),
    "500": (500, "INTERNAL", "An internal error has occurred.", ""),
    "529": (503, "UNAVAILABLE", "The model is overloaded. Please try again later.", ""),
    "429": (429, "RESOURCE_EXHAUSTED", "Resource has been exhausted", ""),
    "spend limit": (429, "RESOURCE_EXHAUSTED", "Your project has exceeded its monthly spending cap.", ""),
}


class GeminiServer(Provider):
    """Prices are those of gemini-3.8-flash in November 2026."""

    rates: ClassVar[dict[str, float]] = {"input": 0.75, "output": 3.75, "cached": 0.075}
    job_state = "SUCCEEDED"
    """How a job ends."""
    late = 0
    """So many looks at jobs that ended name no file with the answers yet."""

    def answer(self, method: str, path: str, query: dict[str, str], asked: Any) -> Reply | None:
        part = path.removeprefix("/v1beta/").removeprefix("/v1/")
        if part.startswith("models/"):
            return self._model(part, asked)
        if "upload" in path:
            return self._upload(path, asked)
        if part.endswith(":download"):
            rows = self.books.batches[f"batches/{part.partition(':')[0].removeprefix('files/out-')}"]["rows"]
            return 200, {"content-type": "application/octet-stream"}, _lines(rows)
        if part == "batches":
            return self._list(query)
        job = self.books.batches.get(part.partition(":")[0])
        if job is None:
            return self.error("404")
        return 200, {}, {} if part.endswith(":cancel") else self._shown(job)

    def message(self, asked: Any, how: str | None, batch: bool) -> tuple[Any, dict[str, int]]:
        said = asked["contents"][0]["parts"][0]["text"]
        told = asked["systemInstruction"]["parts"][0]["text"]
        shared, cached = tokens(told), self.cached(told)
        output = 0 if how in ("refusal", "blocked") else OUTPUT_TOKENS
        usage: dict[str, int] = {
            "promptTokenCount": tokens(said) + shared,
            "candidatesTokenCount": output,
            "thoughtsTokenCount": THOUGHTS,
            "cachedContentTokenCount": shared if cached else 0,
        }
        reply: dict[str, Any] = {
            "usageMetadata": usage,
            "modelVersion": "gemini-3.8-flash",
            "responseId": f"resp_{self.books.requests}",
        }
        if how == "no count":
            del reply["usageMetadata"]["candidatesTokenCount"], reply["usageMetadata"]["thoughtsTokenCount"]
        if how == "blocked":
            reply["promptFeedback"] = {"blockReason": "PROHIBITED_CONTENT"}
        else:
            reply["candidates"] = [_candidate(said, how, self.verdict)]
        billed = {"input": tokens(said) + (0 if cached else shared), "cached": shared if cached else 0}
        return ({"foo": 1} if how == "wrong frame" else reply), billed | {"output": output + THOUGHTS}

    def error(self, fault: str) -> Reply:
        if fault in ("429 retry-after", "429 for an hour"):
            delay = "0.2s" if fault == "429 retry-after" else "3600s"
            info = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}]
            return 429, {}, _error(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota.", info)
        code, status, message, reason = _ERRORS[fault]
        details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}] if reason else []
        return code, {}, _error(code, status, message, details)

    def _model(self, part: str, asked: Any) -> Reply | None:
        name, _, action = part.partition(":")
        if action == "generateContent":
            return None
        if action == "batchGenerateContent":
            return self._submit(asked["batch"])
        return 200, {}, {"name": name, "outputTokenLimit": 65536}

    def _upload(self, path: str, asked: Any) -> Reply:
        if "session" not in path:
            headers = {"x-goog-upload-url": f"{self.url}/upload/session", "x-goog-upload-status": "active"}
            return 200, headers, {}
        name = f"files/in-{len(self.books.batches) + 1:03d}-{self.books.paths['upload']}"
        # One row alone is JSON by itself and comes parsed.
        rows = [asked] if isinstance(asked, dict) else [json.loads(line) for line in asked.splitlines()]
        self.books.batches[name] = {"rows": rows}
        return 200, {"x-goog-upload-status": "final"}, {"file": {"name": name, "state": "ACTIVE"}}

    def _submit(self, asked: Any) -> Reply:
        name = f"batches/{len(self.books.batches) + 1:03d}"
        rows = [self._row(one) for one in self.books.batches[asked["inputConfig"]["fileName"]]["rows"]]
        self.books.batches[name] = {
            "name": name,
            "tag": asked["displayName"],
            "created": datetime.now(UTC).isoformat(),
            "ends": time.monotonic() + self.batch_s,
            "state": self.job_state,
            "size": len(rows),
            "rows": [row for row in rows[::-1] if row is not None],
        }
        return 200, {}, self._shown(self.books.batches[name])

    def _row(self, asked: Any) -> dict[str, Any] | None:
        fault = self.draw("row")
        if self.job_state in ("EXPIRED", "FAILED"):
            return None
        if fault in ("errored", "invalid request"):
            code = 3 if fault == "invalid request" else 13
            return {"key": asked["key"], "error": {"code": code, "message": "This row did not work"}}
        reply = self.work(asked["request"], fault, batch=True)
        return None if fault == "missing" else {"key": asked["key"], "response": reply}

    def _list(self, query: dict[str, str]) -> Reply:
        held = [job for name, job in sorted(self.books.batches.items()) if name.startswith("batches/")][::-1]
        at = int(query.get("pageToken") or 0)
        page = held[at : at + min(int(query.get("pageSize", 20)), 2)]
        told: dict[str, Any] = {"operations": [self._shown(job) for job in page]}
        if at + len(page) < len(held):
            told["nextPageToken"] = str(at + len(page))
        return 200, {}, told

    def _shown(self, job: dict[str, Any]) -> dict[str, Any]:
        ended = time.monotonic() >= job["ends"]
        metadata: dict[str, Any] = {
            "@type": "type.googleapis.com/google.ai.generativelanguage.v1.GenerateContentBatch",
            "displayName": job["tag"],
            "state": f"BATCH_STATE_{job['state'] if ended else 'RUNNING'}",
            "createTime": job["created"],
            "batchStats": {"requestCount": str(job["size"])},
        }
        if ended and job["state"] not in ("EXPIRED", "FAILED"):
            failed = sum("error" in row for row in job["rows"])
            # As in all of its JSON, a count of zero is left out.
            metadata["batchStats"] |= {"failedRequestCount": str(failed)} if failed else {}
            if self.late > 0:
                self.late -= 1
            else:
                metadata["output"] = {"responsesFile": f"files/out-{job['name'].removeprefix('batches/')}"}
        return {"name": job["name"], "metadata": metadata, "done": ended}


def _candidate(said: str, how: str | None, verdict: str | Callable[[str], str]) -> dict[str, Any]:
    if how == "refusal":
        return {"finishReason": "SAFETY", "index": 0}
    parts = [{"text": "A thought.", "thought": True}, {"text": trace(said, how, verdict)}]
    return {
        "content": {"parts": parts, "role": "model"},
        "finishReason": "MAX_TOKENS" if how == "max tokens" else "STOP",
        "index": 0,
    }


def _error(code: int, status: str, message: str, details: list[dict[str, Any]]) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": details}}


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()
