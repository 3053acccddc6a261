"""Read conversations, and choose the turns that become samples.

A conversation is a list of messages in any common spelling, a list of texts, or one text with the roles in it. What its
turns say is data: it is neither followed nor changed.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from wizloop.loop.data.records import BadRow, RowRefused
from wizloop.loop.data.strict_json import Malformed, Parser

USER, ASSISTANT = "user", "assistant"
ROLES: Mapping[str, str] = {
    **dict.fromkeys(("user", "human", "prompter", "customer", "prompt", "question"), USER),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatgpt", "chatbot", "ai", "claude", "bard"), ASSISTANT),
    **dict.fromkeys(("agent", "response", "answer"), ASSISTANT),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function", "ipython", "observation", "function_call", "environment"), "tool"),
}
"""Roles by the words for them, case-folded."""
ROLE_KEYS = ("role", "from", "speaker", "author", "sender")
TEXT_KEYS = ("content", "value", "text", "parts", "message", "utterance")
PAIR_KEYS = (
    *((asked, answered) for asked in ("human", "user") for answered in ("assistant", "gpt", "bot", "ai", "model")),
    ("prompt", "response"),
    ("question", "answer"),
    ("query", "response"),
    ("input", "output"),
)
"""Keys of an object that holds a question and its answer."""
MARKS = tuple(
    (f"{before}{user}:", f"{before}{assistant}:")
    for before in ("\n\n", "\n", "### ")
    for user, assistant in (("Human", "Assistant"), ("User", "Assistant"), ("Human", "AI"))
)
"""What begins a user's turn and an answer in a text with the roles in it."""
MOST_WRITTEN = 1_000_000
"""Characters of a list of messages that is written in one cell."""
_PYTHON = re.compile(
    r"""(?:[\s\[\]{},:]++|'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"|None|True|False"""
    # A number ends its item: a parser recurses on sums.
    r"""|-?[0-9.]++(?:e[-+]?[0-9]++)?+(?=\s*[,\]}:]))*+""",
    re.DOTALL,
)
"""A list as Python prints it, as pandas writes it into CSV: no sign that a parser could recurse on without end."""


class Turn(NamedTuple):
    """One message."""

    role: str
    text: str
    label: Any = None
    """What the message itself says of its harm."""


class Pair(NamedTuple):
    """A user's turn and the answer behind it, if any."""

    asked: Turn
    answer: Turn | None


class Conversation(tuple[Turn, ...]):
    """The turns that have a text, in order."""

    @property
    def answered(self) -> bool:
        """Whether it ends with an answer."""
        return bool(self) and self[-1].role == ASSISTANT

    def pairs(self) -> list[Pair]:
        """Return each user's turn with the answer that follows it. Raises RowRefused if there is none."""
        pairs: list[Pair] = []
        for turn in self:
            if turn.role == USER:
                pairs.append(Pair(turn, None))
            elif turn.role == ASSISTANT and pairs:
                asked, answer = pairs[-1]
                # After a tool's result an assistant goes on with the same answer.
                pairs[-1] = Pair(asked, turn if answer is None else turn._replace(text=f"{answer.text}\n\n{turn.text}"))
        if not pairs:
            raise RowRefused("the conversation has no text of a user" if self else "the prompt is empty")
        return pairs

    def whole(self) -> Pair:
        """Return everything before the last answer as one text with its roles, and that answer. Raises RowRefused."""
        last = self.pairs()[-1]
        before = list(self)
        while before[-1].role != USER and last.answer is not None:
            before.pop()
        text = (
            before[0].text if len(before) == 1 else "\n\n".join(f"{turn.role.title()}: {turn.text}" for turn in before)
        )
        return Pair(last.asked._replace(text=text), last.answer)


def looks_like_one(value: Any, *, texts: bool = False) -> bool:
    """Return whether a value is a conversation, perhaps written in a text; with `texts`, a list of texts is one."""
    value = opened(value)
    if isinstance(value, Mapping):
        return _key(value, ROLE_KEYS) is not None and _key(value, TEXT_KEYS) is not None
    if not isinstance(value, list) or not value:
        return False
    first = value[0]
    if isinstance(first, Mapping):
        return _pair_keys(first) is not None or (
            _key(first, ROLE_KEYS) is not None and _key(first, TEXT_KEYS) is not None
        )
    return texts and (isinstance(first, str) or _is_two_texts(first))


def opened(value: Any) -> Any:
    """Return the list that a text holds, as JSON, as Python prints it, or by its roles; any other value as it is."""
    if not isinstance(value, str):
        return value
    if value.startswith("[") and (written := _written(value)) is not None:
        return written
    marks = next((marks for marks in MARKS if _is_marked(value, marks)), None)
    return value if marks is None else list(_marked(value, *marks))


def parse(value: Any, answer: Any = None, *, users_only: bool = False) -> Conversation:
    """Return a conversation and the answer that stands beside it; with `users_only`, every text is a user's turn.

    Raises BadRow if a message has no role or no text, RowRefused for a role that is not known.
    """
    turns = list(_turns(value, users_only))
    after = list(_turns(answer, False, ASSISTANT))
    if after and after[0].role != ASSISTANT:
        # The answer repeats the question, as TRL's chosen does.
        turns = []
    if not turns or turns[-1].role != ASSISTANT:
        turns += after
    return Conversation(turns)


def _turns(value: Any, users_only: bool, begins: str = USER) -> Iterator[Turn]:
    if value is None or value != value:
        return
    if isinstance(value, str):
        value = [value]
    elif isinstance(value, Mapping):
        value = _of_columns(value)
    if not isinstance(value, Sequence):
        raise BadRow(f"the prompt is a {type(value).__name__}, not a text")
    role = begins
    for number, message in enumerate(value, start=1):
        if isinstance(message, str):
            yield from _said(role, message)
            role = USER if users_only or role == ASSISTANT else ASSISTANT
        elif _is_two_texts(message):
            yield from (*_said(USER, message[0]), *_said(ASSISTANT, message[1]))
        elif isinstance(message, Mapping):
            yield from _message(message, number)
        else:
            raise BadRow(f"message {number} is a {type(message).__name__}, without a role and a text")


def _message(message: Mapping[str, Any], number: int) -> Iterator[Turn]:
    by, said = _key(message, ROLE_KEYS), _key(message, TEXT_KEYS)
    if by is None and (pair := _pair_keys(message)) is not None:
        yield from (*_said(USER, _text(message[pair[0]], number)), *_said(ASSISTANT, _text(message[pair[1]], number)))
    elif by is None or said is None:
        raise BadRow(f"message {number} has no {'role' if by is None else 'content'}")
    else:
        yield from _said(_role(message[by], number), _text(message[said], number), message.get("label"))


def _said(role: str, text: str, label: Any = None) -> Iterator[Turn]:
    if text and not text.isspace():
        yield Turn(role, text, label)


def _role(given: Any, number: int) -> str:
    word = given.get("role") if isinstance(given, Mapping) else given
    role = ROLES.get(word.strip(" <|>:").casefold()) if isinstance(word, str) else None
    if role is None:
        raise RowRefused(f"message {number} has the unknown role {str(word)[:40]!r}: write user, assistant or system")
    return role


def _text(content: Any, number: int) -> str:
    """Return a content's text: parts that are none, such as an image, are left out. Raises BadRow."""
    if content is None or content != content:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        content = content.get("parts", [content])
    if not isinstance(content, Sequence):
        raise BadRow(f"the content of message {number} is a {type(content).__name__}, not a text")
    parts = (part.get("text") if isinstance(part, Mapping) else part for part in content)
    return "\n".join(part for part in parts if isinstance(part, str))


def _key(message: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    """Return the key that a message has, rather one with a value: tables of mixed sources have them all."""
    there = [key for key in keys if key in message]
    return next((key for key in there if message[key] is not None), there[0] if there else None)


def _pair_keys(message: Mapping[str, Any]) -> tuple[str, str] | None:
    return next((pair for pair in PAIR_KEYS if pair[0] in message and pair[1] in message), None)


def _is_two_texts(message: Any) -> bool:
    return isinstance(message, list | tuple) and len(message) == 2 and all(isinstance(text, str) for text in message)


def _of_columns(value: Mapping[str, Any]) -> list[Any]:
    """Return the messages of an object with a list for each key, as `datasets` stores them, or the only message."""
    by = _key(value, ROLE_KEYS)
    if by is None or not isinstance(value[by], list):
        return [value]
    lists = {key: one for key, one in value.items() if isinstance(one, list) and len(one) == len(value[by])}
    return [dict(zip(lists, message, strict=True)) for message in zip(*lists.values(), strict=True)]


def _written(text: str) -> list[Any] | None:
    """Return the list of objects or of texts that a cell holds, in JSON or as Python prints it, or None."""
    if len(text) > MOST_WRITTEN or not text[1:].lstrip().startswith(("{", '"', "'")):
        return None
    value: Any = None
    try:
        value = Parser(with_nan=True).whole(text.strip())
    except Malformed:
        if _PYTHON.fullmatch(text):
            with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
                value = ast.literal_eval(text.strip())
    kinds = set(map(type, value)) if isinstance(value, list) else set()
    return value if len(kinds) == 1 and kinds <= {dict, str} else None


def _is_marked(text: str, marks: tuple[str, str]) -> bool:
    user, assistant = marks
    return text.lstrip("\n").startswith(user.lstrip("\n")) and assistant in text


def _marked(text: str, user: str, assistant: str) -> Iterator[dict[str, str]]:
    """Yield the turns of a text: only the other's mark ends one, and an answer is stripped."""
    rest, mark, by = text.lstrip("\n").removeprefix(user.lstrip("\n")), assistant, USER
    while True:
        said, found, rest = rest.partition(mark)
        yield {"role": by, "content": said.removeprefix(" ") if by == USER else said.strip()}
        if not found:
            return
        by, mark = (ASSISTANT, user) if by == USER else (USER, assistant)
