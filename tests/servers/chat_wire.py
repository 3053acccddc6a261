"""OpenAI's chat completions with log-probabilities on the loopback, as Ollama, vLLM and mlx_lm.server speak them."""

import math
from collections.abc import Sequence
from typing import Any, Literal

from tests.servers.completions_wire import CompletionsWire, Model
from tests.servers.provider import Reply, Script, never

Chats = Literal["ollama", "vllm", "strict", "mlx", "bare"]
"""strict refuses a field that it does not know, and more than 5 log-probabilities; bare gives none at all."""
TURN = "<|user|>{}<|assistant|>"
"""The server's own chat template."""
KNOWN = {"model", "messages", "max_tokens", "temperature", "top_p", "seed", "logprobs", "top_logprobs"}


class ChatWire(CompletionsWire):
    """A server with one model behind chat completions, and no completions."""

    def __init__(self, model: Model, chats: Chats, script: Script = never) -> None:
        super().__init__(model, "mlx" if chats == "mlx" else "vllm", script)
        self.chats = chats
        self.most = {"ollama": 20, "vllm": 20, "strict": 5, "mlx": 11, "bare": 20}[chats]

    def answer(self, method: str, path: str, query: dict[str, str], asked: Any) -> Reply | None:
        if path != "/v1/chat/completions":
            return super().answer(method, path, query, asked) if path == "/v1/models" else (404, {}, {"error": "no"})
        if self.chats == "strict" and not set(asked) <= KNOWN:
            return 400, {}, {"error": {"message": f"unknown field {min(set(asked) - KNOWN)}"}}
        if asked.get("top_logprobs", 0) > self.most:
            return 400, {}, {"error": {"message": f"top_logprobs is at most {self.most}"}}
        return None

    def message(self, asked: Any, how: str | None, batch: bool) -> tuple[Any, dict[str, int]]:
        (turn,) = asked["messages"]
        ids = self.model.encode(TURN.format(turn["content"]))
        written, known, stop = self._write(ids, asked)
        shown = written[:-1] if written[-1:] == [self.model.end] else written
        message = {"role": "assistant", "content": self.model.decode(shown)}
        choice = {"index": 0, "message": message, "finish_reason": stop, "logprobs": None}
        if asked.get("logprobs") and self.chats != "bare":
            choice["logprobs"] = self._of_chat(shown, known, asked)
        return {"object": "chat.completion", "choices": [choice], "usage": {"prompt_tokens": len(ids)}}, {"input": 1}

    def _of_chat(self, written: Sequence[int], known: Sequence[Any], asked: Any) -> Any:
        if self.chats == "mlx":
            return self._listed(written, known[: len(written)], asked)
        return {"content": [self._token(t, p, asked) for t, p in zip(written, known, strict=False)]}

    def _token(self, token: int, logprobs: Sequence[float], asked: Any) -> dict[str, Any]:
        likely = sorted(range(len(logprobs)), key=lambda at: -logprobs[at])[: asked["top_logprobs"]]
        named = [{"token": self.model.decode([at]), "logprob": max(logprobs[at], -9999.0)} for at in (token, *likely)]
        assert all(math.isfinite(float(str(one["logprob"]))) for one in named)
        return {**named[0], "bytes": list(self.model.decode([token]).encode()), "top_logprobs": named[1:]}
