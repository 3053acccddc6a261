"""Clients by a recipe: the adapter of a teacher's mode, so that what is sent costs what it is priced at."""

import json
from datetime import UTC, datetime

import pytest

from wizloop.backends.teachers.base import Question
from wizloop.backends.teachers.remote import RemoteTeacher
from wizloop.loop.teaching.clients import client_of, tariff_of
from wizloop.recipes.schema import Recipe

DAY = datetime(2026, 3, 1, tzinfo=UTC).date()


@pytest.mark.parametrize(
    ("mode", "kept"), [("live", {"type": "ephemeral"}), ("batch", {"type": "ephemeral", "ttl": "1h"})]
)
def test_claude_keeps_its_instruction_for_the_time_that_is_priced(mode: str, kept: dict[str, str]) -> None:
    # Anthropic bills twice the input price for a cache of an hour, 1.25 times for one of five minutes.
    section = {"names": ["claude"], "claude": {"mode": mode}}
    recipe = Recipe.model_validate_json(json.dumps({"name": "r", "source": "demo", "teacher": section}))
    client = client_of(recipe, "claude", tariff_of(recipe.teacher, "claude", DAY), None)
    assert isinstance(client.teacher, RemoteTeacher)
    (system,) = client.teacher.request(Question("k", "x"))["system"]
    assert (system["cache_control"], client.mode, client.batches is not None) == (kept, mode, mode == "batch")
