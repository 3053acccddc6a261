"""A pytest plugin: with MUTANTS_COVERS it keeps which test ran which line, with MUTANTS_KILLER which test failed first.

It is copied into the tree that is tested, and imports nothing of ours.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import coverage
import pytest

COVERS, KILLER = os.environ.get("MUTANTS_COVERS"), os.environ.get("MUTANTS_KILLER")
measured: dict[str, dict[str, Any]] = {}
running: list[coverage.Coverage] = []


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start coverage if asked for."""
    # With processes of its own, pytest starts one session more that runs no test.
    if COVERS and (os.environ.get("PYTEST_XDIST_WORKER") or not session.config.getoption("numprocesses", None)):
        folders = [str(Path(each).resolve()) for each in os.environ["MUTANTS_FOLDERS"].split(os.pathsep)]
        cover = coverage.Coverage(data_file=None, include=[f"{each}/*" for each in folders], config_file=False)
        cover.start()
        running.append(cover)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Time a test and attribute coverage to it."""
    began = time.perf_counter()
    measured[item.nodeid] = {"well": True}
    for cover in running:
        cover.switch_context(item.nodeid)
    yield
    for cover in running:
        cover.switch_context("")
    measured[item.nodeid]["seconds"] = round(time.perf_counter() - began, 3)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Record the test that killed the mutant."""
    if report.failed and KILLER and not Path(KILLER).exists():
        failed = {"test": report.nodeid, "timeout": "Timeout" in report.longreprtext}
        Path(KILLER).write_text(json.dumps(failed), encoding="utf-8")
    if not report.passed and report.nodeid in measured:
        measured[report.nodeid]["well"] = False


def pytest_sessionfinish() -> None:
    """Write the lines that each test runs."""
    for cover in running:
        cover.stop()
        data = cover.get_data()
        lines = {
            str(Path(file).relative_to(Path.cwd().resolve())): {
                line: [context for context in contexts if context]
                for line, contexts in data.contexts_by_lineno(file).items()
            }
            for file in data.measured_files()
        }
        out = Path(f"{COVERS}-{os.getpid()}.json")
        out.write_text(json.dumps({"tests": measured, "lines": lines}), encoding="utf-8")
