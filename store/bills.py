"""What a teacher's calls were billed for, and how much text they were about: the measure of calls to come.

It knows no price, and sums no money: that is in `costs`.
"""

import json
from dataclasses import dataclass

from sqlalchemy import Connection, distinct, func, select

from wizloop.store import tables

_LOOKED_AT = 2000
_ENDED = ("parsed", "refused", "failed")


@dataclass(frozen=True, slots=True)
class Billed:
    """A teacher's newest calls together, as the provider counted their tokens."""

    questions: int
    """The samples that they were about: one that was asked about twice is one."""
    calls: int
    """Those that were billed."""
    text_bytes: int
    """Of the samples' texts, prompt and response, in UTF-8: once for each of these calls."""
    input_tokens: int
    """Neither read from a cache nor written into it."""
    cached_tokens: int
    cache_write_tokens: int
    output_tokens: int


def billed(db: Connection, teacher: str, model: str, version: str) -> Billed | None:
    """The newest calls of one version of a teacher that came to an end, or None where none of them was billed."""
    call, sample = tables.teacher_calls, tables.samples
    query = select(call.c.sample_id, call.c.request_json, call.c.usage_json, sample.c.prompt, sample.c.response)
    query = query.join(sample, sample.c.id == call.c.sample_id)
    query = query.where(call.c.teacher == teacher, call.c.model == model, call.c.state.in_(_ENDED))
    found = db.execute(query.order_by(call.c.id.desc()).limit(_LOOKED_AT)).all()
    own = [row for row in found if json.loads(row.request_json).get("version") == version]
    bills = [(json.loads(row.usage_json or "{}"), _bytes(row.prompt) + _bytes(row.response)) for row in own]
    bills = [(usage, size) for usage, size in bills if any(usage.values())]
    if not bills:
        return None
    names = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens")
    tokens = {name: sum(usage.get(name, 0) for usage, _ in bills) for name in names}
    return Billed(len({row.sample_id for row in own}), len(bills), sum(size for _, size in bills), **tokens)


def put_to(db: Connection) -> dict[str, int]:
    """How many samples were put to each teacher, by its name, and came to an end there."""
    call = tables.teacher_calls
    query = select(call.c.teacher, func.count(distinct(call.c.sample_id))).where(call.c.state.in_(_ENDED))
    return {str(name): int(n) for name, n in db.execute(query.group_by(call.c.teacher))}


def _bytes(text: str | None) -> int:
    return len((text or "").encode("utf-8", "surrogatepass"))
