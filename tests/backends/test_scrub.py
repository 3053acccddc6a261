"""What is taken out of a reply before anybody keeps it: the key in every form, and half a sign."""

import json

import pytest
from pydantic import SecretStr

from tests.servers.pairs import KEY, pair
from tests.servers.provider import Provider, Reply
from wizloop.backends.http.exchange import Exchange, json_object
from wizloop.backends.http.scrub import of_secret
from wizloop.backends.teachers.base import Answer, Question, Usage

ESCAPED = KEY.replace("-", "\\u002D").replace("c", "\\u0063")


@pytest.mark.parametrize("form", [KEY, ESCAPED, ESCAPED.replace("\\", "\\\\"), KEY.replace("-", "%2d"), f"\\{KEY}"])
def test_a_key_is_found_in_every_form(form: str) -> None:
    scrub = of_secret(SecretStr(KEY))
    assert scrub(f"you sent {form}, did you?") in ("you sent [key], did you?", "you sent [key], did you?")


@pytest.mark.parametrize("word", ["x", "1", "token", "none", "EMPTY", "ollama", "not-needed", "sk-no-key-required"])
def test_a_word_that_stands_in_for_a_key_spoils_nothing(word: str) -> None:
    text = json.dumps({"explanation": f"{word} is a word", "prompt_tokens": 900, word: [1, word]})
    exchange = Exchange(0.0, 100, body=text.encode(), scrub=of_secret(SecretStr(word)))
    assert exchange.json() == json.loads(text)
    assert exchange.text == text


def test_a_key_is_taken_out_after_parsing_from_values_and_names() -> None:
    body = f'{{"a": "{ESCAPED}", "{KEY}": [1, "{KEY}."]}}\n{{"b": "{ESCAPED}"}}'
    exchange = Exchange(0.0, 1000, body=body.encode(), scrub=of_secret(SecretStr(KEY)))
    assert exchange.lines() == [{"a": "[key]", "[key]": [1, "[key]."]}, {"b": "[key]"}]


@pytest.mark.parametrize("text", ['{"a": "\\ud800"}', '{"a": {"\\udfff": ["\\ud83d"]}}'])
def test_what_is_parsed_can_be_stored(text: str) -> None:
    found = json_object(text)
    assert "\ufffd" in json.dumps(found, ensure_ascii=False)
    assert json.dumps(found, ensure_ascii=False).encode()


@pytest.mark.parametrize("text", ["[]", "1", "nul", '{"a":' * 5_000, '{"a\\u0041":' * 450 + "1" + "}" * 450])
def test_what_is_no_object_or_too_deep_is_none(text: str) -> None:
    assert json_object(text) is None or text.startswith('{"a\\u0041"')


def test_an_answer_can_be_stored_whatever_it_is_made_of() -> None:
    usage = Usage(10**30, -5, 7, 10**9)
    made = Answer("invalid", "\ud800", "m\udfff" * 999, usage=usage, category="\ud83d", retry_after_s=float("inf"))
    assert (made.raw, made.category, len(made.model)) == ("\ufffd", "\ufffd", 600)
    assert made.usage == Usage(0, 0, 7, 0)
    assert made.retry_after_s == 7 * 86_400
    assert Answer("invalid", "", "m", retry_after_s=float("nan")).retry_after_s is None


class Echo:
    """Words an error that holds the key in JSON's escapes, and in a header."""

    def __init__(self, inner: Provider) -> None:
        self._inner = inner

    def error(self, fault: str) -> Reply:
        status, _, _ = self._inner.__class__.error(self._inner, fault)
        return status, {"request-id": KEY}, f'{{"error": {{"message": "you sent {ESCAPED}"}}}}'.encode()


@pytest.mark.parametrize("kind", ["claude", "gemini", "openai"])
def test_no_answer_brings_the_key_in_escapes_or_in_a_header(kind: str) -> None:
    with pair(kind, script=lambda number, path: "400" if path == "ask" else None) as (server, asking):
        server.error = Echo(server).error
        answer = asking.ask(Question("k", "how do I bake bread"))
    assert "you sent [key]" in (answer.category or "")
    assert "[key]" in answer.raw
    assert answer.request_id == "[key]"
    assert KEY not in repr(answer)
    assert ESCAPED not in repr(answer)
