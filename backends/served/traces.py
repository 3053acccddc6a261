"""A server's reply made into a sampled trace: where its tokens stand, how sure they were, what was watched at them.

A server that does not say which token it chose is read by its likeliest ones; one that gives no log-probabilities
leaves the text alone, and then a trace is as sure as any other.
"""

import math
from collections.abc import Mapping, Sequence

from wizloop.backends.guard_types import Choice, Monitor, Sampled
from wizloop.backends.served.completions import Candidate, Position, Reply
from wizloop.backends.tokens import Tokens

AS_SURE_AS_ANY = 1.0
"""The confidence of every token where none is known, so that each trace has one vote."""


def sampled(
    reply: Reply, tokens: Tokens, watch: Mapping[str, Choice], topk: int, monitor: Monitor | None = None
) -> Sampled:
    """The trace. A monitor cuts it as if it had looked on: what came after is dropped, though it was paid for."""
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
    """Minus the mean log-probability of the likeliest tokens, at most `topk` (DeepConf, arXiv:2508.15260)."""
    # A server adds the chosen token where it is not among the likeliest.
    known = [one.logprob for one in position.top[:topk] if math.isfinite(one.logprob)]
    return -sum(known) / len(known) if known else 0.0


def shares(top: Sequence[Candidate], ids: Sequence[int], tokens: Tokens) -> tuple[float, ...]:
    """The probabilities of these tokens, of them alone; one that is not listed is taken to be as likely as the last."""
    found = [_logprob(top, identity, tokens) for identity in ids]
    listed = [one.logprob for one in top if math.isfinite(one.logprob)]
    floor = min(listed, default=0.0)
    weights = [math.exp((floor if each is None else each) - max(listed, default=0.0)) for each in found]
    return tuple(weight / sum(weights) for weight in weights)


def lists_all(top: Sequence[Candidate], ids: Sequence[int], tokens: Tokens) -> bool:
    """Whether each of these tokens is among the likeliest."""
    return all(_logprob(top, identity, tokens) is not None for identity in ids)


def aligned(text: str, options: Sequence[Sequence[str]]) -> list[int] | None:
    """Where each token begins in `text`, if each is one of its options and together they spell it; else None."""
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
    return next((one.logprob for one in top if _is(one, identity, tokens) and math.isfinite(one.logprob)), None)


def _is(one: Candidate, identity: int, tokens: Tokens) -> bool:
    return one.id == identity if one.id is not None else one.text == tokens.decode([identity])


def _without_end(reply: Reply, tokens: Tokens) -> tuple[Position, ...]:
    """The positions of the text: a server may list the end token too."""
    last = reply.positions[-1].chosen
    if last is None:
        return reply.positions[:-1] if reply.stop == "stop" else reply.positions
    ended = last.id in tokens.ends if last.id is not None else last.text in ("", tokens.decode([tokens.end]))
    return reply.positions[:-1] if ended else reply.positions


def _starts(text: str, positions: Sequence[Position], tokens: Tokens) -> list[int]:
    options = [[_text(one, tokens) for one in ([each.chosen] if each.chosen else each.top)] for each in positions]
    # mlx_lm.server drops the space that a text begins with.
    options[:1] = [[*texts, *(each.lstrip() for each in texts)] for texts in options[:1]]
    found = aligned(text, options)
    if found is not None:
        return found
    # A character that spans tokens, or a token that was not among the likeliest: as this tokenizer would divide it.
    ids = tokens.encode(text)
    known = tokens.starts(ids, text)
    return [known[at * len(known) // len(positions)] if known else 0 for at in range(len(positions))]


def _text(one: Candidate, tokens: Tokens) -> str:
    return one.text if one.id is None else tokens.decode([one.id])


def _cut(trace: Sampled, kept: int) -> Sampled:
    end = trace.starts[kept] if kept < len(trace.starts) else len(trace.text)
    return Sampled(trace.text[:end], "cut", trace.starts[:kept], trace.confidences, trace.watched)


def _without(reply: Reply, tokens: Tokens, watch: Mapping[str, Choice]) -> Sampled:
    """A trace of which the text alone is known: its verdict words are certain."""
    starts = tokens.starts(tokens.encode(reply.text), reply.text)
    watched = {name: [spelled(reply.text[start:], choice) for start in starts] for name, choice in watch.items()}
    return Sampled(reply.text, reply.stop, starts, [AS_SURE_AS_ANY] * len(starts), watched)


def spelled(text: str, choice: Choice) -> tuple[float, ...]:
    """1 for the word with which the text begins, 0 for the others; the same for all where it begins with none."""
    begins = [text.lstrip().startswith(word.strip()) for word in choice.words]
    return tuple(float(one) for one in begins) if any(begins) else (1 / len(begins),) * len(begins)
