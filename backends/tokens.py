"""Text to token ids and back, for prompts that contain hostile text.

Trusted text (the instruction, the markup around a sample) may hold special tokens. A sample never does: whatever it
spells is encoded as plain text. This module uses a Hugging Face fast tokenizer and loads no model.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from wizloop.backends import unreadable
from wizloop.backends.guard_types import BackendError, BadArtifact, Choice, Encoded, Prompt

CUT_MARK = " [...] "
TURN_ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<end_of_turn>",
    "<turn|>",
    "<|end|>",
    "<|return|>",
    "<|eot|>",
    "<|END_OF_TURN_TOKEN|>",
)
"""Special tokens that end an assistant's turn, whatever a configuration says: gpt-oss lists `<|return|>` alone."""
_LEAST_DATA = 16


def of_folder(folder: Path) -> Any:
    """Load the tokenizer of a model's folder with transformers, without code. Raises BadArtifact."""
    from transformers import AutoTokenizer

    with unreadable.reading(f"{folder}: its tokenizer cannot be loaded from tokenizer.json"):
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


class Tokens:
    """A tokenizer.

    `end` is the id that ends a trace, `ends` all ids that do, `bos` what the tokenizer puts before every text, if
    anything.
    """

    def __init__(self, wrapped: Any, ends: Iterable[int] = ()) -> None:
        """Take mlx-lm's wrapper or a transformers fast tokenizer, and ids that end a trace besides its own.

        Raises BadArtifact for a slow tokenizer, and for one without an end token.
        """
        inner = getattr(wrapped, "_tokenizer", wrapped)
        # A fast tokenizer has an inner one too, which has no end token.
        hf = inner if hasattr(inner, "eos_token_id") else wrapped
        raw = getattr(hf, "_tokenizer", None) or getattr(hf, "backend_tokenizer", None)
        if raw is None or not hasattr(raw, "encode_batch"):
            raise BadArtifact(
                f"{getattr(hf, 'name_or_path', 'the model')}: has no fast tokenizer (tokenizer.json); convert it first"
            )
        self._raw = raw
        self.end, self.ends = _ends(wrapped, hf, ends)
        added = {token.content: identity for identity, token in hf.added_tokens_decoder.items() if _commands(token)}
        self._forbidden = frozenset(added.values())
        self._spelled = (
            re.compile("|".join(re.escape(text) for text in sorted(added, key=len, reverse=True))) if added else None
        )
        bos = hf.bos_token_id
        with unreadable.reading("the tokenizer fails"):
            starts_with_bos = bos is not None and hf("a", add_special_tokens=True)["input_ids"][:1] == [bos]
        self.bos: tuple[int, ...] = (int(bos),) if starts_with_bos else ()

    def defused(self, text: str) -> str:
        """Insert an invisible space into every special token that a text spells, for a server that reads text."""
        if self._spelled is None:
            return text
        return self._spelled.sub(lambda match: f"{match[0][0]}\u200b{match[0][1:]}", text)

    def encode(self, text: str) -> list[int]:
        """Encode trusted text, with nothing added. Raises BadArtifact where the tokenizer's own rules fail on it."""
        try:
            ids: list[int] = self._raw.encode(text, add_special_tokens=False).ids
        except BaseException as error:
            raise unreadable.refusal("the tokenizer fails on a text", error) or error from error
        return ids

    def encode_data(self, text: str) -> list[int]:
        """Encode hostile text; a special token that it spells is split after its first character into plain text."""
        pieces, start = [], 0
        for match in self._spelled.finditer(text) if self._spelled else ():
            pieces.append(text[start : match.start() + 1])
            start = match.start() + 1
        pieces.append(text[start:])
        ids = [identity for piece in pieces for identity in self.encode(piece)]
        if not self._forbidden.isdisjoint(ids):
            raise BackendError(
                "a sample's text still spelled a special token after it was split: report this tokenizer"
            )
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, special tokens included."""
        text: str = self._raw.decode(list(ids), skip_special_tokens=False)
        return text

    def starts(self, ids: Sequence[int], text: str) -> list[int]:
        """Return the offset in `text`, which is decode(ids), at which each token begins."""
        pieces = self._raw.decode_batch([[identity] for identity in ids], skip_special_tokens=False)
        if "".join(pieces) != text:
            # A character spans tokens, or a decoder looks at neighbors: measure the growing text instead.
            return [len(self.decode(ids[:i])) for i in range(len(ids))]
        return [0, *accumulate(map(len, pieces))][:-1]

    def prompt(self, prompt: Prompt, *, max_tokens: int) -> Encoded:
        """Encode a prompt in at most `max_tokens`. Data parts are cut in the middle, in proportion to their length.

        Raises ValueError if not even 16 tokens of data fit next to the trusted text.
        """
        markup = tuple(self.encode(prompt.shared))
        # A chat template writes the start token itself, not always as the very first.
        if self.bos and self.bos[0] not in markup:
            markup = self.bos + markup
        shared = (*markup, *self.encode_data(prompt.instruction))
        parts = [
            ((self.encode_data if part.data or part.kept else self.encode)(part.text), part.data)
            for part in prompt.parts
        ]
        opening = self.encode(prompt.opening)
        fixed = len(shared) + len(opening) + sum(len(ids) for ids, data in parts if not data)
        room, wanted = max_tokens - fixed, sum(len(ids) for ids, data in parts if data)
        if room < min(wanted, _LEAST_DATA):
            raise ValueError(
                f"guard.max_prompt_tokens is {max_tokens}, and the instruction and markup take {fixed}: "
                f"raise it to {fixed + 64} or more"
            )
        body, cut, own = list[int](), 0, []
        for ids, data in parts:
            share = room * len(ids) // wanted if data and wanted > room else len(ids)
            kept = self._cut(ids, share) if data else ids
            cut += max(0, len(ids) - len(kept))
            own += [(len(body), len(body) + len(kept))] if data and kept else []
            body.extend(kept)
        return Encoded(shared, (*body, *opening), cut, tuple(own))

    def deciding(self, choice: Choice) -> tuple[list[int], list[int]]:
        """Return (common ids before the decision, the id of each word at it).

        Raises BackendError if no single token tells all words apart.
        """
        spelled = [self.encode(word) for word in choice.words]
        common = 0
        while all(len(ids) > common for ids in spelled) and len({ids[common] for ids in spelled}) == 1:
            common += 1
        if any(len(ids) <= common for ids in spelled) or len({ids[common] for ids in spelled}) < len(spelled):
            raise BackendError(f"the words {choice.words} cannot be told apart at one token of this tokenizer")
        return spelled[0][:common], [ids[common] for ids in spelled]

    def _cut(self, ids: list[int], room: int) -> list[int]:
        if len(ids) <= room:
            return ids
        mark = self.encode(CUT_MARK)
        kept = max(0, room - len(mark))
        tail = kept // 3
        return ids[: kept - tail] + mark + (ids[-tail:] if tail else [])


def _ends(wrapped: Any, hf: Any, given: Iterable[int]) -> tuple[int, frozenset[int]]:
    """Return the id that ends a trace and all ids that do. Raises BadArtifact if there is none."""
    # mlx-lm's wrapper has several; for transformers' tokenizer the same name is a single id.
    known = getattr(wrapped, "eos_token_ids", None)
    named = {*given, *(known if isinstance(known, set | list) else ())} - {None}
    own = hf.eos_token_id if hf.eos_token_id is not None else min(named, default=None)
    if own is None:
        raise BadArtifact(
            f"{getattr(hf, 'name_or_path', 'the model')}: its tokenizer has no end token: name one as eos_token in "
            "tokenizer_config.json, or give another base"
        )
    turns = {at for at, token in hf.added_tokens_decoder.items() if token.special and token.content in TURN_ENDS}
    return int(own), frozenset({int(own), *named, *turns})


def _commands(token: Any) -> bool:
    """Return whether text must not be able to spell an added token. Runs of blanks, which some add, are harmless."""
    return len(token.content) > 1 and (token.special or token.content[0] in "<[") and not token.content.isspace()
