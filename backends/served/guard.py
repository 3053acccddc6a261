"""A guard on a completions server: vLLM, or any other with top log-probabilities. It cannot be trained.

The prompt is encoded here, with the base's own tokenizer. A server that takes no token ids is sent the text, in which
no special token is spelled. For a server without log-probabilities `sentence` says what is lost.
"""

import hashlib
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import SecretStr

from wizloop.backends import artifacts, model_folder
from wizloop.backends.guard_base import GuardBase
from wizloop.backends.guard_types import BackendError, Choice, Encoded, Prompt, Sampled, Sampling
from wizloop.backends.sampling import of_prompt
from wizloop.backends.served import traces as served_traces
from wizloop.backends.served.completions import Dialect, Endpoint
from wizloop.backends.tokens import Tokens, of_folder

BIAS = 50.0
"""Added to the logits of a choice's words, equally, so that their shares stay and the server lists them."""
_PROBE = "Human user:\nHello.\n\n"


@dataclass(frozen=True)
class Server:
    """A server of guards and how to use it."""

    base_url: str
    """Up to and including /v1."""
    model: str | None
    """The base's name there; None takes the first listed model, or the base's own name if adapters are paths."""
    adapters: Literal["name", "path"]
    """An adapter is a model with its own name (vLLM), or a path in the request (mlx_lm.server)."""
    topk: int
    concurrency: int
    deadline_s: float
    secret: SecretStr | None = None
    chat: bool = False
    """Whether to ask its chat completions."""


def load(base: str, adapter: Path | None, server: Server) -> "ServedGuard":
    """Connect to the guard `base` with `adapter` on the server. Raises BackendError, ModelMissing."""
    folder = model_folder.find(base)
    tokens = Tokens(of_folder(folder))
    endpoint = Endpoint(server.base_url, server.secret, server.deadline_s, chat=server.chat)
    try:
        model, extra = _named(endpoint, base, folder, server, adapter)
        ids = [*tokens.bos, *tokens.encode(_PROBE)]
        dialect = endpoint.dialect(model, ids, _PROBE, server.topk, extra)
    except BackendError:
        endpoint.close()
        raise
    # Late import: a chat's guard is one of these.
    from wizloop.backends.served.chat import ChatGuard

    kind = ChatGuard if server.chat else ServedGuard
    return kind(endpoint, dialect, tokens, model, extra, server.concurrency)


class ServedGuard(GuardBase):
    """A guard used over a network, many requests at a time."""

    def __init__(
        self, endpoint: Endpoint, dialect: Dialect, tokens: Tokens, model: str, extra: dict[str, Any], concurrency: int
    ) -> None:
        super().__init__(tokens)
        self.dialect, self.model = dialect, model
        self._endpoint, self._extra = endpoint, extra
        # For the guard's lifetime: every thread has its own connection.
        self._threads = ThreadPoolExecutor(max_workers=concurrency)
        self._end = weakref.finalize(self, _end, self._threads, endpoint)

    def close(self) -> None:
        """End the threads and connections, as a garbage-collected guard does."""
        self._end()

    @property
    def whole(self) -> bool:
        """True if the server gives log-probabilities."""
        return self.dialect.k > 0

    def sentence(self) -> str:
        """Describe how the guard is used, or what is lost, for the run's log."""
        where = f"the guard is served by {self._endpoint.base_url} as {self.model}"
        if self.whole:
            form = "as token ids" if self.dialect.ids else "as text, which it tokenizes itself"
            return f"{where}: prompts {form}, {self.dialect.k} log-probabilities at each token"
        return (
            f"{where}, which gives no log-probabilities: a verdict's only probability is the share of its traces, "
            "every trace counts alike, none is cut, and direct answers are 0 or 1; confidence comes from votes alone. "
            "Serve it with vLLM or mlx_lm.server to get the rest"
        )

    def encode(self, prompt: Prompt, *, max_tokens: int) -> Encoded:
        """Encode a prompt as GuardBase does; a sample never holds a special token, even if the server takes text."""
        if not self.dialect.ids:
            # The server reads text, and would take what a sample spells for a special token.
            parts = tuple(
                replace(part, text=self.tokens.defused(part.text)) if part.data or part.kept else part
                for part in prompt.parts
            )
            prompt = replace(prompt, parts=parts, instruction=self.tokens.defused(prompt.instruction))
        return super().encode(prompt, max_tokens=max_tokens)

    def score(self, prompts: Sequence[Encoded], choice: Choice, *, rows: int = 128) -> NDArray[np.float64]:
        """Return [prompts, words]: the probability of each word of `choice` coming next, among those words.

        `rows` is ignored: the recipe's concurrency decides how many requests run in parallel.
        """
        return np.array(list(self._threads.map(lambda prompt: self._score(prompt, choice), prompts)))

    def states(self, prompts: Sequence[Encoded], *, depth: float) -> None:
        """Return None: a server gives no hidden states."""

    def sample(self, prompts: Sequence[Encoded], sampling: Sampling) -> list[list[Sampled]]:
        """Return traces for every prompt, in order. The server's cache computes a prompt once."""
        return list(self._threads.map(lambda at: self._sample(at, prompts[at], sampling), range(len(prompts))))

    def _score(self, prompt: Encoded, choice: Choice) -> tuple[float, ...]:
        common, deciding = self.tokens.deciding(choice)
        ids = [*prompt.shared, *prompt.body, *common]
        if not self.whole:
            return self._guess([*prompt.shared, *prompt.body], choice)
        bias = {str(identity): BIAS for identity in deciding}
        reply = self._endpoint.complete(self._body(ids, max_tokens=1, temperature=0.0, logit_bias=bias))
        top = reply.positions[0].top if reply.positions else ()
        if not served_traces.lists_all(top, deciding, self.tokens):
            echoed = [self._echo(ids, identity) for identity in deciding]
            known = [each for each in echoed if each is not None]
            if len(known) == len(deciding):
                weights = np.exp(np.array(known) - max(known))
                return tuple(float(each) for each in weights / weights.sum())
        return served_traces.shares(top, deciding, self.tokens)

    def _echo(self, ids: list[int], identity: int) -> float | None:
        """Return the log-probability of a token after a prompt, from a server that lists those of the prompt too."""
        if not self.dialect.ids:
            return None
        reply = self._endpoint.complete(self._body([*ids, identity], max_tokens=1, temperature=0.0, echo=True))
        chosen = reply.positions[len(ids)].chosen if len(reply.positions) > len(ids) else None
        return None if chosen is None else chosen.logprob

    def _guess(self, ids: list[int], choice: Choice) -> tuple[float, ...]:
        """Return 0 or 1 by what is written greedily."""
        longest = max(len(self.tokens.encode(word)) for word in choice.words)
        reply = self._endpoint.complete(self._body(ids, max_tokens=longest, temperature=0.0))
        return served_traces.spelled(reply.text, choice)

    def _sample(self, at: int, prompt: Encoded, sampling: Sampling) -> list[Sampled]:
        traces = [self._trace(number, prompt, sampling) for number in range(sampling.least)]
        while sampling.more is not None and len(traces) < sampling.most and sampling.more(at, traces):
            traces.append(self._trace(len(traces), prompt, sampling))
        return traces

    def _trace(self, number: int, prompt: Encoded, sampling: Sampling) -> Sampled:
        seeded = hashlib.sha256(f"{sampling.seed} {of_prompt(prompt)} {number}".encode())
        body = self._body(
            [*prompt.shared, *prompt.body],
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=int.from_bytes(seeded.digest()[:4], "big") >> 1,
        )
        monitor = sampling.monitor() if sampling.monitor is not None and self.whole else None
        reply = self._endpoint.complete(body)
        return served_traces.sampled(reply, self.tokens, sampling.watch, sampling.topk, monitor)

    def _body(self, ids: list[int], **parameters: Any) -> dict[str, Any]:
        prompt = self._endpoint.asked(ids if self.dialect.ids else self.tokens.decode(ids[len(self.tokens.bos) :]))
        return {"model": self.model, **prompt, **parameters, **self.dialect.parameters(), **self._extra}


def _end(threads: ThreadPoolExecutor, endpoint: Endpoint) -> None:
    threads.shutdown()
    endpoint.close()


def _named(
    endpoint: Endpoint, base: str, folder: Path, server: Server, adapter: Path | None
) -> tuple[str, dict[str, Any]]:
    """Return the model's name in a request, and further parameters that select it."""
    if server.adapters == "path":
        # The server may run in another working directory.
        here = str(folder.absolute()) if Path(base).expanduser().exists() else model_folder.name_of(base)
        return server.model or here, {} if adapter is None else {"adapters": str(adapter.absolute())}
    if adapter is not None:
        return _lora(endpoint, adapter.absolute()), {}
    listed = [server.model] if server.model is not None else endpoint.models()
    if not listed:
        raise BackendError(f"{server.base_url}: lists no model: set guard.server.model")
    return listed[0], {}


def _lora(endpoint: Endpoint, adapter: Path) -> str:
    """Return the adapter's name on the server, which loads it if needed. Raises BackendError if it cannot."""
    name = f"wizloop-{adapter.name}-{artifacts.verify(adapter)[:8]}"
    if name in endpoint.models():
        return name
    if not (adapter / model_folder.PEFT_ADAPTER).is_file():
        raise BackendError(
            f'{adapter}: is not in PEFT\'s layout, which a server reads LoRA adapters in: set guard.backend to "cuda", '
            'or serve with mlx_lm.server and set guard.server.adapters to "path"'
        )
    endpoint.post("/load_lora_adapter", {"lora_name": name, "lora_path": str(adapter)})
    if name not in endpoint.models():
        raise BackendError(
            f"{endpoint.base_url}: does not serve the adapter {name}: start vLLM with --enable-lora and with "
            f"VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment, or with --lora-modules {name}={adapter}"
        )
    return name
