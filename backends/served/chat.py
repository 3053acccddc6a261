"""A guard on a chat endpoint with log-probabilities: Ollama, vLLM, llama.cpp, mlx_lm.server, any that speaks OpenAI's.

The server writes the chat template itself and begins the answer, so a prompt is sent without its frame, and the opening
ends the user's turn. A model that was not trained on this may repeat the opening; more than that is never read.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from wizloop.backends.guard_types import Choice, Encoded, Prompt
from wizloop.backends.served import traces as served_traces
from wizloop.backends.served.completions import Candidate
from wizloop.backends.served.guard import ServedGuard

_LONGEST_WORD = 8
"""Tokens that hold a verdict word and the marks around it."""
_MARKS = r"[\s*_\"'`]*"


class ChatGuard(ServedGuard):
    """A guard that is asked in chats, many at a time."""

    def encode(self, prompt: Prompt, *, max_tokens: int) -> Encoded:
        """Encode a user's turn without the frame around it; the server's template makes it a little longer."""
        return super().encode(replace(prompt, shared="", opening=""), max_tokens=max_tokens)

    def _score(self, prompt: Encoded, choice: Choice) -> tuple[float, ...]:
        """Return the shares of the words where the answer names one of them; equal shares where it names none."""
        ids = [*prompt.shared, *prompt.body]
        opening = self.tokens.decode(ids).rpartition("\n\n")[2]
        longest = len(self.tokens.encode(opening)) + _LONGEST_WORD
        reply = self._endpoint.complete(self._body(ids, max_tokens=longest, temperature=0.0))
        at = decision(reply.text, opening, choice)
        if at is None:
            return (1 / len(choice.words),) * len(choice.words)
        written = served_traces.sampled(reply, self.tokens, {}, self.dialect.k)
        if not reply.positions:
            return served_traces.spelled(reply.text[at:].casefold(), choice)
        number = sum(start <= at for start in written.starts) - 1
        return shares([(self._text(each), each.logprob) for each in reply.positions[number].top], choice)

    def _text(self, token: Candidate) -> str:
        return token.text if token.id is None else self.tokens.decode([token.id])


def decision(text: str, opening: str, choice: Choice) -> int | None:
    """Return where an answer names one of the words: at its beginning, or after the lines of the opening; else None."""
    repeated = r"\s*".join(rf"(?:{re.escape(line)})?" for line in opening.splitlines())
    words = "|".join(re.escape(word.strip()) for word in choice.words)
    found = re.match(rf"{_MARKS}{repeated}{_MARKS}({words})\b", text, re.IGNORECASE)
    return None if found is None else found.start(1)


def shares(top: Sequence[tuple[str, float]], choice: Choice) -> tuple[float, ...]:
    """Return the words' probabilities among themselves, from the (text, log-probability) of likely tokens.

    All tokens that begin one word only count for it. A word that none begins is as likely as the last listed.
    """
    words = [word.strip() for word in choice.words]
    listed = [(text.strip().casefold(), math.exp(logprob)) for text, logprob in top if math.isfinite(logprob)]
    least = min((weight for _, weight in listed), default=1.0)
    weights = [0.0] * len(words)
    for text, weight in listed:
        begins = [at for at, word in enumerate(words) if text and (word.startswith(text) or text.startswith(word))]
        if len(begins) == 1:
            weights[begins[0]] += weight
    weights = [weight or least for weight in weights]
    return tuple(weight / sum(weights) for weight in weights)
