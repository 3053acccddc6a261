"""`serve`: an exported guard behind a moderation endpoint, with a log that `import --follow` reads."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from hashlib import sha256
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import click

from wizloop.loop.commands.classify import exported
from wizloop.loop.commands.common import FILE, error_text, now, refuse, report_errors, say

if TYPE_CHECKING:
    from wizloop.loop.serving.answer_log import AnswerLog
    from wizloop.loop.serving.endpoint import Endpoint
    from wizloop.loop.serving.judging import Judging

_LAST_ANSWERS_SECONDS = 5.0


@click.command(short_help="Serve an exported guard as a moderation endpoint.")
@click.argument("folder", type=FILE, metavar="DIR")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; others than this machine's let anyone who reaches it ask.",
)
@click.option("--port", type=click.IntRange(0, 65_535), default=8099, show_default=True, help="Port; 0 for a free one.")
@click.option("--log", type=FILE, metavar="FILE.jsonl", help="Append every text and its verdict to this file.")
def serve(folder: Path, host: str, port: int, log: Path | None) -> None:
    """Serve the exported guard in DIR, with its calibration, until Ctrl-C or SIGTERM.

    POST /v1/moderations takes {"input": TEXT or [TEXT, ...]} and answers in the shape of OpenAI's moderation endpoint,
    with one category, "harmful", and the guard's verdict, probability and threshold in "wizloop". GET /v1/models names
    the model, GET /health says that it runs. There is no key: by default only this machine can ask.

    `wizloop import --follow FILE.jsonl --split pool` reads the log as it grows.
    """
    from wizloop.backends.guard_types import BackendError
    from wizloop.loop.serving.judging import Judging

    # Model libraries print to stdout.
    with report_errors(failures=(BackendError,)), redirect_stdout(sys.stderr):
        written = _log(log, about := _about(folder))
        judging = Judging(exported(folder), written, now, say)
        with _listening(host, port, judging, about) as endpoint, _signals(judging):
            say(
                f"{about['name']} at {endpoint.url}/v1/moderations{f', logged to {log}' if log else ''}; Ctrl-C ends it"
            )
            if not endpoint.is_local:
                say(f"anyone who reaches {endpoint.url} can ask: there is no key and no encryption")
            judging.run()
        say(
            f"stopped: {judging.judged:,} texts judged"
            + (f", {judging.unlogged:,} not logged" * bool(judging.unlogged))
        )


def _about(folder: Path) -> dict[str, Any]:
    """Return what names the guard in answers and in the log. `calibration` is None for one without."""
    from wizloop.backends import artifacts
    from wizloop.loop.guard import guard_file

    if not (folder / guard_file.NAME).exists():
        refuse(f"{folder}: not an exported guard: write one with `wizloop export ROUND --format safetensors --to DIR`")
    try:
        known = guard_file.read(folder).calibration
    except ValueError as error:
        refuse(str(error))
    manifest = folder / artifacts.MANIFEST
    # A folder's name may hold bytes that are not UTF-8.
    name = folder.resolve().name.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return {
        "name": name,
        "sha256": artifacts.sha256_of(manifest) if manifest.is_file() else None,
        "calibration": None if known is None else sha256(known.model_dump_json().encode()).hexdigest()[:12],
        "created": int((folder / guard_file.NAME).stat().st_mtime),
    }


def _log(path: Path | None, about: dict[str, Any]) -> "AnswerLog | None":
    from wizloop.loop.serving.answer_log import AnswerLog

    try:
        return None if path is None else AnswerLog(path, about)
    except OSError as error:
        refuse(f"--log {error_text(error)}")


@contextmanager
def _listening(host: str, port: int, judging: "Judging", about: dict[str, Any]) -> Iterator["Endpoint"]:
    """Listen on a thread of its own, and answer who is there at the end. The guard stays on the main thread."""
    from wizloop.loop.serving.endpoint import Endpoint

    try:
        endpoint = Endpoint(host, port, judging, about)
    except OSError as error:
        refuse(f"{host}:{port}: cannot listen there: {error.strerror}; choose another --host or --port")
    Thread(target=endpoint.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    try:
        yield endpoint
    finally:
        endpoint.shutdown()
        judging.refuse_waiting()
        endpoint.wait(_LAST_ANSWERS_SECONDS)
        endpoint.server_close()


@contextmanager
def _signals(judging: "Judging") -> Iterator[None]:
    """End after the batch at the first SIGINT or SIGTERM, at once at the second."""

    def end(number: int, frame: object) -> None:
        if judging.stopping:
            raise KeyboardInterrupt
        judging.stop()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
