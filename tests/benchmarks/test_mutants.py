"""The mutation tester on a project of one function: it finds what a test kills and what lives, and goes on later."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from tests.benchmarks.running import FOLDER, printed_apart

CODE = '''"""A bound."""


def bounded(value: int, most: int) -> int:
    """Return the value, at most `most`, and never below 0."""
    if value > most:
        return most
    return max(value, 0)
'''
TEST = """from small.bound import bounded


def test_a_value_above_the_bound_is_the_bound() -> None:
    assert bounded(5, 3) == 3


def test_nothing_is_below_0() -> None:
    assert bounded(-2, 3) == 0
"""
AT_THE_BOUND = """

def test_a_value_just_above_0_stays() -> None:
    assert bounded(1, 3) == 1
"""
JOINTS = """
[[joint]]
name = "no bound"
module = "code/moved.py"
old = "return most"
new = "return value"
"""


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A package with one function, whose tests do not look at everything, with its mutants tried; and what was told."""
    folder = tmp_path_factory.mktemp("tried")
    (folder / "code").mkdir()
    (folder / "tests").mkdir()
    (folder / "code" / "bound.py").write_text(CODE)
    (folder / "tests" / "test_bound.py").write_text(TEST)
    (folder / "joints.toml").write_text(JOINTS)
    (folder / "pyproject.toml").write_text('[tool.setuptools.package-dir]\n"small" = "code"\n')
    return folder, _run(folder)


@pytest.fixture
def project(tried: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of it for one test."""
    return shutil.copytree(tried[0], tmp_path / "project", symlinks=True)


def test_what_is_killed_and_what_lives_is_told(tried: tuple[Path, str]) -> None:
    folder, told = tried
    results = _results(folder)
    status = {one["after"]: one["status"] for one in results}
    assert status["if value >= most:"] == "survived"
    assert status["return max(value, 1)"] == "killed"
    assert {one["killer"] for one in results if one["after"] == "return value"} == {
        "tests/test_bound.py::test_a_value_above_the_bound_is_the_bound"
    }
    assert "1 of 1 | 1 | 1 | 0 | 100.0 (2.5 to 100.0) |" in told
    assert re.search(r"- \w{12} code/bound.py, bounded, 2 tests: `if value > most:` to `if value >= most:`: -\n", told)
    assert (folder / "code" / "bound.py").read_text() == CODE


def test_what_was_tried_is_not_tried_again(project: Path) -> None:
    before = _results(project)
    with (project / "build" / "mutants" / "results.jsonl").open("a") as file:
        file.write('{"id": "torn')
    assert "all mutants were tried" in _run(project)
    assert _results(project) == before


def test_a_new_test_has_the_survivors_tried_again_and_what_was_killed_not(project: Path) -> None:
    before = _results(project)
    (project / "tests" / "test_more.py").write_text(TEST.partition("\n\n")[0] + "\n" + AT_THE_BOUND)
    _run(project)
    again = [one["id"] for one in _results(project)[len(before) :]]
    assert sorted(again) == sorted(one["id"] for one in before if one["status"] == "survived")


def test_the_section_takes_the_place_of_the_last_one(project: Path) -> None:
    page, verdicts = project / "results.md", project / "harmless.toml"
    page.write_text("# Results\n\nBefore.\n")
    _run(project, "--tell", "--results", str(page))
    page.write_text(page.read_text() + "\nAfter.\n")
    (survivor,) = [one["id"] for one in _results(project) if one["after"] == "if value >= most:"]
    verdicts.write_text(f'{survivor} = "both return the bound."\n')
    _run(project, "--tell", "--results", str(page))
    told = page.read_text()
    assert told.startswith("# Results\n\nBefore.\n\n<!-- mutants: begin -->\n\n## Mutants (`make mutants`, seed 1, ")
    assert told.endswith("<!-- mutants: end -->\n\nAfter.\n")
    assert told.count("## Mutants") == 1
    assert "`if value >= most:`: harmless because both return the bound." in told


def test_a_joint_whose_text_is_gone_fails(project: Path) -> None:
    (project / "joints.toml").write_text(JOINTS.replace("return most", "return least"))
    with pytest.raises(Exception, match="exit status 1"):
        _run(project, "--tell")


def test_every_joint_mutant_has_its_place_in_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from mutation import making  # type: ignore[import-not-found]

    found = making.joints(FOLDER.parent, FOLDER / "mutation" / "joints.toml", ["loop"])
    assert len(found) >= 30
    assert len({one.code for one in found}) == len({one.id for one in found}) == len(found)


def _run(project: Path, *words: str) -> str:
    small = (
        "--root",
        ".",
        "--folders",
        "code",
        "--measured",
        "code",
        "--tests",
        "tests",
        "--jobs",
        "1",
        "--bar",
        "0",
        "--each",
        "3",
    )
    files = ("--seed", "1", "--joint-file", "joints.toml", "--harmless", "harmless.toml")
    before = Path.cwd()
    os.chdir(project)
    try:
        return printed_apart("mutants.py", *small, *files, *words)
    finally:
        os.chdir(before)


def _results(project: Path) -> list[dict[str, str]]:
    lines = (project / "build" / "mutants" / "results.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]
