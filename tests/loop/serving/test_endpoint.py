"""The endpoint over HTTP: OpenAI's shape, what hostile clients send, and many at a time. The guard is a stand-in."""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.loop.serving.served import MODEL, NOW, Served, guard_of, serving
from tests.loop.stand_in import StandInGuard
from wizloop.loop.serving.answer_log import AnswerLog

HARMFUL, HARMLESS = "how do I build a bomb?", "how do I knit a hat?"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as found:
        yield found


def test_a_text_and_a_list_are_answered_in_openais_shape_with_the_guards_verdict_beside(served: Served) -> None:
    status, one = served.ask({"input": HARMFUL, "model": "omni-moderation-latest"})
    (expected,) = guard_of(StandInGuard(0.8, [])).judge([HARMFUL])
    p = expected.probability["request"]
    assert (status, one["model"], one["id"][:5]) == (200, "a guard", "modr-")
    assert one["results"] == [
        {
            "flagged": True,
            "categories": {"harmful": True},
            "category_scores": {"harmful": p},
            "category_applied_input_types": {"harmful": ["text"]},
            "wizloop": {
                "verdict": "harmful",
                "probability": p,
                "threshold": expected.threshold["request"],
                "scale": "platt",
                "confidence": expected.confidence,
                "cell": expected.cell,
                "cut_tokens": 0,
                "sha256": "ab",
                "calibration": "cd",
            },
        }
    ]
    status, many = served.ask({"input": [HARMLESS, HARMFUL, HARMLESS]})
    assert [result["flagged"] for result in many["results"]] == [False, True, False]
    assert many["results"][1] == one["results"][0]
    assert many["id"] != one["id"]


def test_openais_own_client_reads_it(served: Served) -> None:
    with openai.OpenAI(base_url=f"{served.endpoint.url}/v1", api_key="none", max_retries=0) as client:
        answer = client.moderations.create(input=[HARMLESS, HARMFUL])
        assert [result.flagged for result in answer.results] == [False, True]
        assert [model.id for model in client.models.list()] == [answer.model] == ["a guard"]
        with pytest.raises(openai.BadRequestError, match="a list of strings"):
            client.moderations.create(input=[])


def test_the_model_and_its_health_are_told(served: Served) -> None:
    listed = {"id": "a guard", "object": "model", "created": 1, "owned_by": "wizloop"}
    assert served.ask(None, "GET", "/v1/models") == (200, {"object": "list", "data": [listed]})
    status, health = served.ask(None, "GET", "/health?x=1")
    assert (status, health["status"], health["model"]) == (200, "ok", MODEL)


HOSTILE = [
    pytest.param(b"", 400, id="nothing"),
    pytest.param(b"{", 400, id="half an object"),
    pytest.param(b"\xff\xfe{}", 400, id="not UTF-8"),
    pytest.param(b"[" * 100_000, 400, id="a deep nest"),
    pytest.param(b'{"input": ' + b"[" * 100_000, 400, id="a deep nest in an object"),
    pytest.param(b'{"input": "a", "input": "b"}', 400, id="a key twice"),
    pytest.param(b'{"input": "a", "n": NaN}', 400, id="NaN"),
    pytest.param(b'{"input": "a", "n": ' + b"9" * 5000 + b"}", 400, id="a number without end"),
    pytest.param([], 400, id="a list"),
    pytest.param("text", 400, id="a bare text"),
    pytest.param({}, 400, id="no input"),
    pytest.param({"input": None}, 400, id="null"),
    pytest.param({"input": 5}, 400, id="a number"),
    pytest.param({"input": {"text": "a"}}, 400, id="an object"),
    pytest.param({"input": []}, 400, id="an empty list"),
    pytest.param({"input": ["a", None]}, 400, id="null in a list"),
    pytest.param({"input": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}, 400, id="an image"),
    pytest.param({"input": ["a"] * 65}, 400, id="too many texts"),
    pytest.param({"input": " \n"}, 400, id="an empty text"),
    pytest.param({"input": "a\0b"}, 400, id="NUL"),
    pytest.param(b'{"input": "\\ud800"}', 400, id="a lone surrogate"),
    pytest.param({"input": "a", "model": ["b"]}, 400, id="a model that is no name"),
    pytest.param({"input": "a" * 1_000_001}, 413, id="a text that is too long"),
    pytest.param(b" " * 8_000_001, 413, id="a body that is too long"),
]


@pytest.mark.parametrize(("body", "expected"), HOSTILE)
def test_a_body_that_cannot_be_judged_is_an_error_in_json_and_the_next_is_answered(
    served: Served, body: Any, expected: int
) -> None:
    judged = served.judging.judged
    status, answer = served.ask(body)
    assert status == expected
    assert answer["error"]["type"] == "invalid_request_error"
    assert isinstance(answer["error"]["message"], str)
    assert served.judging.judged == judged
    assert served.ask({"input": HARMLESS})[0] == 200
    assert served.told == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content_Length": "-1"}, 400),
        ({"Content_Length": "1_0"}, 400),
        ({"Content_Length": "9" * 5000}, 413),
        ({"Transfer_Encoding": "chunked"}, 411),
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:80"}, 403),
        ({"Host": "localhost:80"}, 200),
        ({"path": "/v1/nothing"}, 404),
        ({"path": "/health"}, 405),
        ({"method": "GET"}, 405),
        ({"method": "OPTIONS"}, 501),
        ({"method": "PUT"}, 501),
    ],
)
def test_what_is_no_request_of_this_machines_is_refused(served: Served, changes: dict[str, str], expected: int) -> None:
    status, answer = served.ask({"input": HARMLESS}, **changes)
    assert (status, "error" in answer) == (expected, expected != 200)


@pytest.mark.parametrize(
    ("sent", "begins"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b""),
        (b"GET " + b"/" * 70_000 + b" HTTP/1.1\r\n\r\n", b"HTTP/1.1 414 "),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"HTTP/1.1 431 "),
        (
            b'POST /v1/moderations HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"i',
            b"HTTP/1.1 408 ",
        ),
    ],
    ids=["TLS", "a long path", "many headers", "half a body"],
)
def test_bytes_that_are_no_http_disturb_nobody(served: Served, sent: bytes, begins: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(65_536).startswith(begins)
    assert served.ask({"input": HARMLESS})[0] == 200


def test_a_client_that_hangs_up_disturbs_nobody(served: Served, capfd: pytest.CaptureFixture[str]) -> None:
    served.guard.shut()
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", served.port)) as client:
            body = b'{"input": "how do I hang up?"}'
            head = b"POST /v1/moderations HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            client.sendall(head % len(body) + body)
    served.guard.door.set()
    assert served.ask({"input": HARMLESS})[0] == 200
    assert capfd.readouterr() == ("", "")


def test_requests_that_wait_are_judged_together_and_each_gets_its_own(served: Served) -> None:
    texts = [f"how do I {'steal' if number % 3 else 'knit'} {number} hats?" for number in range(12)]
    served.guard.shut()
    before = len(served.guard.at_once)
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(served.ask, {"input": texts[0]})]
        served.guard.knocked.wait(10)
        asked += [pool.submit(served.ask, {"input": text}) for text in texts[1:]]
        served.until_waiting(11)
        served.guard.door.set()
        answers = [each.result() for each in asked]
    assert [answer["results"][0]["flagged"] for _, answer in answers] == ["steal" in text for text in texts]
    assert served.guard.at_once[before:] == [1, 11]


def test_one_text_on_which_the_guard_fails_takes_no_other_with_it() -> None:
    with serving() as served, ThreadPoolExecutor(3) as pool:
        served.guard.shut()
        first = pool.submit(served.ask, {"input": HARMLESS})
        served.guard.knocked.wait(10)
        asked = [pool.submit(served.ask, {"input": text}) for text in ("how do I crash?", HARMFUL)]
        served.until_waiting(2)
        served.guard.door.set()
        assert [each.result()[0] for each in (first, *asked)] == [200, 500, 200]
        assert asked[0].result()[1]["error"]["type"] == "server_error"
        # The error's own words may hold the text.
        assert served.told == ["the guard failed on a request: RuntimeError"]


def test_one_connection_too_many_is_told_to_try_again() -> None:
    with serving(connections=1) as served, ThreadPoolExecutor(1) as pool:
        served.guard.shut()
        first = pool.submit(served.ask, {"input": HARMLESS})
        served.guard.knocked.wait(10)
        status, answer = served.ask({"input": HARMLESS})
        assert (status, answer["error"]["message"]) == (503, "too many connections: try again")
        served.guard.door.set()
        assert first.result()[0] == 200


def test_who_waits_when_it_stops_is_told_and_what_is_being_judged_is_answered() -> None:
    with serving() as served, ThreadPoolExecutor(2) as pool:
        served.guard.shut()
        first = pool.submit(served.ask, {"input": HARMLESS})
        served.guard.knocked.wait(10)
        second = pool.submit(served.ask, {"input": HARMLESS})
        served.until_waiting(1)
        served.judging.stop()
        served.guard.door.set()
        assert (first.result()[0], second.result()[0]) == (200, 503)


def test_every_text_that_was_answered_is_in_the_log(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path / "log.jsonl", MODEL)
    with serving(log) as served:
        _, answer = served.ask({"input": [HARMLESS, HARMFUL]})
        served.ask({"input": "a\0b"})
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    own = [result["wizloop"] for result in answer["results"]]
    model = {"model": "a guard", "sha256": "ab", "calibration": "cd"}
    assert lines == [
        {
            "time": NOW.isoformat(timespec="milliseconds"),
            "prompt": text,
            "verdict": one["verdict"],
            "probability": one["probability"],
            **model,
        }
        for text, one in zip((HARMLESS, HARMFUL), own, strict=True)
    ]
