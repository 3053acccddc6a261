"""What is read off logits before they are gone: the next token, the confidence, the probabilities of watched words."""

import torch

from wizloop.backends.sampling import Reading, Step


def read(logits: torch.Tensor, noise: torch.Tensor, how: Reading) -> tuple[torch.Tensor, Step]:
    """From logits [rows, vocabulary] and random numbers [rows] in [0, 1): the next tokens where the logits are, and
    the step as lists.
    """
    top, ids = logits.topk(how.width(logits.shape[-1]), dim=-1)
    confidences = logits.logsumexp(dim=-1) - top[:, : how.k].mean(dim=-1)
    tokens = ids[:, 0]
    if how.temperature:
        tokens = ids.gather(1, nucleus(top, noise[:, None], how.temperature, how.top_p))[:, 0]
    watched = [torch.softmax(logits[:, list(words)], dim=-1) for words in how.watch.values()]
    # One transfer for all that is read on this side; a token's id is a whole number that 32 bits hold exactly.
    rows = torch.cat([tokens[:, None].float(), confidences[:, None], *watched], dim=-1).tolist()
    at, said = 2, {}
    for name, words in how.watch.items():
        said[name] = [row[at : at + len(words)] for row in rows]
        at += len(words)
    return tokens, Step([int(row[0]) for row in rows], [row[1] for row in rows], said)


def nucleus(top: torch.Tensor, noise: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """[rows, 1]: the places drawn among `top`, logits [rows, width] that fall, by `noise` [rows, 1] in [0, 1).

    Temperature first, then the fewest tokens that reach `top_p` of the `width` (arXiv:1904.09751, section 3.1).
    """
    p = torch.softmax(top / temperature, dim=-1)
    # The first token is always kept: nothing stands before it.
    kept = p.cumsum(dim=-1) - p < top_p
    upto = torch.where(kept, p, 0.0).cumsum(dim=-1)
    chosen = (upto <= noise * upto[:, -1:]).sum(dim=-1, keepdim=True)
    # Rounding may carry the largest noise past the last token that is kept.
    return torch.minimum(chosen, kept.sum(dim=-1, keepdim=True) - 1)
