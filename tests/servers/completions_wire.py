"""OpenAI's completions with log-probabilities on the loopback, as vLLM, text-only servers and mlx_lm.server speak them.

What the next token may be is given from outside, so that a test can put a real model behind the wire.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from tests.servers.provider import Provider, Reply, Script, never

Speaks = Literal["vllm", "text", "mlx", "bare"]
Next = Callable[[Sequence[int]], Sequence[float]]
"""The log-probabilities of all tokens behind these."""


@dataclass(frozen=True)
class Model:
    """What stands behind the wire."""

    following: Next
    encode: Callable[[str], list[int]]
    decode: Callable[[Sequence[int]], str]
    end: int


class CompletionsWire(Provider):
    """A server with one base and the adapters that it was asked to load."""

    rates: ClassVar[dict[str, float]] = {"input": 0.0, "output": 0.0}

    def __init__(self, model: Model, speaks: Speaks, script: Script = never, *, echoes: bool = True) -> None:
        super().__init__(script)
        self.model, self.speaks, self.echoes = model, speaks, echoes
        self.served = ["guard"]
        self.loads_adapters = True
        self.most = {"vllm": 20, "text": 5, "mlx": 11, "bare": 0}[speaks]

    def answer(self, method: str, path: str, query: dict[str, str], asked: Any) -> Reply | None:
        if path == "/v1/models":
            return 200, {}, {"object": "list", "data": [{"id": name, "object": "model"} for name in self.served]}
        if path == "/v1/load_lora_adapter" and self.loads_adapters:
            self.served.append(asked["lora_name"])
            return 200, {}, b"loaded"
        if path != "/v1/completions" or asked["model"] not in self.served:
            return 404, {}, {"error": {"message": f"no {path} for {asked.get('model')}"}}
        refused = self._refuses(asked)
        return (400, {}, {"error": refused}) if refused else None

    def error(self, fault: str) -> Reply:
        return int(fault[:3]), {}, {"error": {"message": "not now"}}

    def message(self, asked: Any, how: str | None, batch: bool) -> tuple[Any, dict[str, int]]:
        ids = asked["prompt"] if isinstance(asked["prompt"], list) else self.model.encode(asked["prompt"])
        written, known, stop = self._write(ids, asked)
        shown = written if not written or written[-1] != self.model.end else written[:-1]
        choice = {"index": 0, "text": self.model.decode(shown), "finish_reason": stop}
        if asked.get("logprobs"):
            if asked.get("echo") and self.echoes:
                before = [self.model.following(ids[:at]) for at in range(1, len(ids))]
                written, known = [*ids, *written], [None, *before, *known]
            choice["logprobs"] = self._listed(written, known, asked)
        usage = {"prompt_tokens": len(ids), "completion_tokens": len(shown)}
        return {"object": "text_completion", "choices": [choice], "usage": usage}, {"input": 1, "output": 1}

    def _refuses(self, asked: Any) -> str | None:
        if isinstance(asked["prompt"], list) and self.speaks != "vllm":
            return "the prompt must be a text"
        wanted = asked.get("logprobs")
        if self.speaks == "mlx" and wanted is not None and not isinstance(wanted, bool):
            return "logprobs must be of type bool"
        if self.speaks in ("vllm", "text") and isinstance(wanted, bool):
            return "logprobs must be an integer"
        if self.speaks != "bare" and max(int(wanted or 0), asked.get("top_logprobs", 0)) > self.most:
            return f"at most {self.most} log-probabilities"
        return None

    def _write(self, ids: Sequence[int], asked: Any) -> tuple[list[int], list[Any], str]:
        rng = random.Random(asked.get("seed", 0))
        written: list[int] = []
        known: list[Any] = []
        while len(written) < asked["max_tokens"]:
            raw = self.model.following([*ids, *written])
            biased = list(raw)
            for token, bias in asked.get("logit_bias", {}).items():
                biased[int(token)] += bias
            written.append(_drawn(biased, asked.get("temperature", 1.0), rng))
            # vLLM tells what the model said, mlx_lm.server what the bias made of it.
            known.append(_normalized(biased) if self.speaks == "mlx" else raw)
            if written[-1] == self.model.end:
                return written, known, "stop"
        return written, known, "length"

    def _listed(self, written: Sequence[int], known: Sequence[Any], asked: Any) -> Any:
        if self.speaks == "bare":
            return None
        count = asked["top_logprobs"] if self.speaks == "mlx" else asked["logprobs"]
        tops = [[] if each is None else _top(each, count) for each in known]
        if self.speaks == "mlx":
            objects = [[{"id": t, "token": f"?{t}", "logprob": p} for t, p in top] for top in tops]
            return {"content": [{**one[0], "top_logprobs": one} for one in objects]}
        names = [self._name(token, asked) for token in written]
        return {
            "tokens": names,
            "token_logprobs": [None if p is None else p[t] for t, p in zip(written, known, strict=True)],
            "top_logprobs": [self._named(top, asked) if top else None for top in tops],
        }

    def _named(self, top: Sequence[tuple[int, float]], asked: Any) -> dict[str, float]:
        return {self._name(token, asked): logprob for token, logprob in top}

    def _name(self, token: int, asked: Any) -> str:
        return f"token_id:{token}" if asked.get("return_tokens_as_token_ids") else self.model.decode([token])


def _top(logprobs: Sequence[float], count: int) -> list[tuple[int, float]]:
    return sorted(enumerate(logprobs), key=lambda pair: -pair[1])[:count]


def _normalized(logits: Sequence[float]) -> list[float]:
    most = max(logits)
    whole = most + math.log(sum(math.exp(each - most) for each in logits))
    return [each - whole for each in logits]


def _drawn(logprobs: Sequence[float], temperature: float, rng: random.Random) -> int:
    if temperature == 0:
        return max(range(len(logprobs)), key=lambda at: logprobs[at])
    weights = [math.exp(each / temperature) for each in _normalized(logprobs)]
    return rng.choices(range(len(weights)), weights)[0]
