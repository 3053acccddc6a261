"""Recognize columns that hold conversations, and turn each conversation into the samples that were asked for.

A label beside a conversation speaks about its last turns: the last request, or the answer to it. It is put on no other
turn, so that the first pair of a longer conversation has no label. A message's own label stays with that message.
"""

from collections.abc import Mapping
from dataclasses import replace

from wizloop.loop.data.conversations import Conversation, Pair, looks_like_one, opened, parse
from wizloop.loop.data.formats import NO_LABELS, Content, Format, Labels, known_labels, plain, spelling, text_column
from wizloop.loop.data.formats_columns import mapped_format
from wizloop.loop.data.label_words import COMPLETION, Given, word_of
from wizloop.loop.data.records import Record, RowRefused
from wizloop.loop.words import Task
from wizloop.recipes.sections import Data

NAMES = (
    *("messages", "message", "conversations", "conversation", "chat", "chat_history", "dialogue", "dialog"),
    *("turns", "transcript", "data"),
)
"""Columns of conversations, which may also be lists of texts."""
ANSWERS = ("chosen", "completion", "response", "answer", "output")
"""Columns of the answer beside a question or a conversation that ends with one; of two answers the better one."""
JUDGED = ("accept", "reject", "ignore")
"""What Prodigy calls an answer: somebody's to the task, and no assistant's."""
REJECTED = "rejected"


def conversations_format(task: Task, sample: Record, *, relabeled: bool = False) -> Format | None:
    """Return the format of a file whose first record has a conversation, or None; other columns are the plain ones."""
    mapping = conversation_columns(sample)
    if not mapping:
        return None
    fmt = with_conversations(mapped_format(mapping, task, sample, relabeled=relabeled), mapping, task, sample)
    note = f"conversations in the column {mapping['prompt']!r}"
    if (label := spelling("label", sample)) is not None:
        note += f"; {label} is about the last turn (about the request: --map {label}=request_label)"
    columns = frozenset((mapping["prompt"],))
    return replace(fmt, name="conversations", columns=columns, note="; ".join(filter(None, (note, fmt.note))))


def conversation_columns(record: Record) -> dict[str, str]:
    """Return the columns of a conversation, and of an answer beside it, as a mapping; empty if there is none."""
    found = [column for column in record if looks_like_one(record[column], texts=plain(column) in NAMES)]
    found = [column for column in found if not plain(column).startswith(REJECTED)]
    prompt, answer = _columns(record, found)
    if prompt is None:
        return {}
    return {"prompt": prompt} if answer is None else {"prompt": prompt, "response": answer}


def _columns(record: Record, found: list[str]) -> tuple[str | None, str | None]:
    """Return the column of the conversation, if any, and that of an answer beside it, if any."""
    text, answers = text_column(record), [name for name in ANSWERS if name in record and record[name] not in JUDGED]
    if answer := next((name for name in answers if name in found), None):
        return (answer, None) if text is None else (text, answer)
    if text in found:
        return text, next(iter(answers), None)
    named = next((column for name in NAMES for column in found if plain(column) == name), None)
    if named is None and text is None and len(found) == 1:
        named = found[0]
    if named is None or (text is not None and isinstance(record.get("response"), str)):
        return None, None
    return named, next(iter(answers), None)


def with_conversations(fmt: Format, mapping: Mapping[str, str], task: Task, sample: Record) -> Format:
    """Return the format of a mapping whose prompt may be a conversation. Texts are opened if the sample's is one."""
    users_only = plain(mapping.get("prompt", "")) == "turns"
    written = {field for field in ("prompt", "response") if _is_written(sample.get(mapping.get(field, "")))}

    def read(record: Record) -> Content:
        content = fmt.read(record)
        assert isinstance(content, Content)
        asked = opened(content.prompt) if "prompt" in written else content.prompt
        answer = opened(content.response) if "response" in written else content.response
        if isinstance(asked, str) and not isinstance(answer, list):
            return content
        talk = parse(asked, answer, users_only=users_only)
        labels = dict(content.labels)
        if f"{task}_label" not in mapping and task in labels:
            labels[_task(talk, task)] = labels.pop(task)
        return content._replace(prompt=talk, response=None, labels=labels)

    return replace(fmt, read=read)


def _is_written(value: object) -> bool:
    return isinstance(value, str) and looks_like_one(value, texts=True)


def _task(talk: Conversation, task: Task) -> Task:
    """Return what a bare label is about: what was said, or for `request`, the default, the last turn."""
    return "response" if task == "request" and talk.answered else task


def chosen_turns(content: Content, data: Data) -> Content | list[Content]:
    """Return the samples of a conversation that `data.turns` asks for. Raises RowRefused, BadRow."""
    talk = content.prompt
    if talk is None:
        return content
    if not isinstance(talk, Conversation):
        talk = parse(talk, content.response)
    pairs = talk.pairs()
    last = _sample(content, talk.whole() if data.turns == "all" else pairs[-1], content.labels)
    if data.turns in ("last", "all") or (data.turns == "first" and len(pairs) == 1):
        return last
    earlier = [_sample(content, pair, NO_LABELS) for pair in pairs[:-1]]
    if data.turns == "each":
        return [*earlier, last]
    if data.split != "pool" and not data.hide_labels and not earlier[0].labels and _are_said(content.labels):
        raise RowRefused(
            f"its label is about the last of {len(pairs)} turns, and the first was taken: take the last, or all "
            '(--turns last, in a recipe turns = "last")'
        )
    return earlier[0]


def _are_said(labels: Labels) -> bool:
    return any(not isinstance(one, Given) or word_of(one.value) is not None for one in labels.values())


def _sample(content: Content, pair: Pair, about: Labels) -> Content:
    labels = {**about, **_own_labels(pair)}
    return content._replace(
        prompt=pair.asked.text, response=None if pair.answer is None else pair.answer.text, labels=labels or NO_LABELS
    )


def _own_labels(pair: Pair) -> Labels:
    """Return the labels that the messages themselves have."""
    said = None if pair.answer is None else pair.answer.label
    task = "completion" if word_of(said) in COMPLETION else "response"
    return known_labels(request=pair.asked.label, **{task: said})
