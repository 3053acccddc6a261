"""Turn a server's reply into a sampled trace: token offsets, confidences, and watched probabilities.

If a server does not name the chosen tokens, the most likely ones are used. Without log-probabilities only the text is
known, and every trace is equally confident.
"""

import math
from collections.abc import Mapping, Sequence

from wizloop.backends.guard_types import Choice, Monitor, Sampled
from wizloop.backends.served.completions import Candidate, Position, Reply
from wizloop.backends.tokens import Tokens

EQUAL_CONFIDENCE = 1.0
"""The confidence of every token where none is known, so that each trace has one vote."""


def sampled(
    reply: Reply, tokens: Tokens, watch: Mapping[str, Choice], topk: int, monitor: Monitor | None = None
) -> Sampled:
    """Build the trace. A monitor cuts it as it would have during sampling: the rest is dropped, though paid for."""
    if not reply.positions:
        return _without(reply, tokens, watch)
    positions = _without_end(reply, tokens)
    trace = Sampled(reply.text, reply.stop, _starts(reply.text, positions, tokens))
    deciding = {name: tokens.deciding(choice)[1] for name, choice in watch.items()}
    trace.watched = {name: [] for name in watch}
    for at, position in enumerate(positions):
        confidence = confidence_of(position, topk)
        trace.confidences.append(confidence)
        for name, ids in deciding.items():
            trace.watched[name].append(shares(position.top, ids, tokens))
        if monitor is not None and monitor.push(confidence):
            return _cut(trace, at + 1)
    return trace


def confidence_of(position: Position, topk: int) -> float:
    """Return minus the mean log-probability of the `topk` most likely tokens (DeepConf, arXiv:2508.15260)."""
    # A server adds the chosen token if it is not among the most likely.
    known = [each.logprob for each in position.top[:topk] if math.isfinite(each.logprob)]
    return -sum(known) / len(known) if known else 0.0


def shares(top: Sequence[Candidate], ids: Sequence[int], tokens: Tokens) -> tuple[float, ...]:
    """Return these tokens' probabilities among themselves; an unlisted one counts as likely as the last listed."""
    listed = [each.logprob for each in top if math.isfinite(each.logprob)] or [0.0]
    logprobs = [_logprob(top, identity, tokens) for identity in ids]
    weights = [math.exp((min(listed) if each is None else each) - max(listed)) for each in logprobs]
    return tuple(weight / sum(weights) for weight in weights)


def lists_all(top: Sequence[Candidate], ids: Sequence[int], tokens: Tokens) -> bool:
    """Return whether each of these tokens is among the most likely."""
    return all(_logprob(top, identity, tokens) is not None for identity in ids)


def aligned(text: str, options: Sequence[Sequence[str]]) -> list[int] | None:
    """Return where each token begins in `text`, or None if no choice of one option each spells it."""
    ways: list[dict[int, int]] = [{0: -1}]
    for texts in options:
        reached: dict[int, int] = {}
        for start in ways[-1]:
            for piece in texts:
                if piece and text.startswith(piece, start):
                    reached.setdefault(start + len(piece), start)
        ways.append(reached)
    at = len(text)
    if at not in ways[-1]:
        return None
    starts: list[int] = []
    for reached in reversed(ways[1:]):
        at = reached[at]
        starts.append(at)
    return starts[::-1]


def _logprob(top: Sequence[Candidate], identity: int, tokens: Tokens) -> float | None:
    text = tokens.decode([identity])
    same = (each.logprob for each in top if (each.text == text if each.id is None else each.id == identity))
    return next((logprob for logprob in same if math.isfinite(logprob)), None)


def _without_end(reply: Reply, tokens: Tokens) -> tuple[Position, ...]:
    """Drop the end token, which some servers list too."""
    last = reply.positions[-1].chosen
    if last is None:
        return reply.positions[:-1] if reply.stop == "stop" else reply.positions
    ended = last.id in tokens.ends if last.id is not None else last.text in ("", tokens.decode([tokens.end]))
    return reply.positions[:-1] if ended else reply.positions


def _starts(text: str, positions: Sequence[Position], tokens: Tokens) -> list[int]:
    def spelling(token: Candidate) -> str:
        return token.text if token.id is None else tokens.decode([token.id])

    options = [[spelling(token) for token in ([each.chosen] if each.chosen else each.top)] for each in positions]
    # mlx_lm.server drops the space that a text begins with.
    options[:1] = [[*texts, *(each.lstrip() for each in texts)] for texts in options[:1]]
    starts = aligned(text, options)
    if starts is not None:
        return starts
    # A character spans tokens, or a token was not among the most likely: split the text as this tokenizer does.
    own = tokens.starts(tokens.encode(text), text)
    return [own[at * len(own) // len(positions)] if own else 0 for at in range(len(positions))]


def _cut(trace: Sampled, kept: int) -> Sampled:
    end = trace.starts[kept] if kept < len(trace.starts) else len(trace.text)
    return Sampled(trace.text[:end], "cut", trace.starts[:kept], trace.confidences, trace.watched)


def _without(reply: Reply, tokens: Tokens, watch: Mapping[str, Choice]) -> Sampled:
    """Build a trace from its text only: its verdict words are certain."""
    starts = tokens.starts(tokens.encode(reply.text), reply.text)
    watched = {name: [spelled(reply.text[start:], choice) for start in starts] for name, choice in watch.items()}
    return Sampled(reply.text, reply.stop, starts, [EQUAL_CONFIDENCE] * len(starts), watched)


def spelled(text: str, choice: Choice) -> tuple[float, ...]:
    """Return 1 for the word that the text begins with and 0 for the others, or equal shares if it begins with none."""
    begins = [text.lstrip().startswith(word.strip()) for word in choice.words]
    return tuple(map(float, begins)) if any(begins) else (1 / len(begins),) * len(begins)
