"""constraints.txt, which `make lock` writes, against the ranges of pyproject.toml, and what make does with it."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.where import ROOT

MACHINES = {"linux": ("x86_64", "aarch64"), "darwin": ("arm64",)}
ENVIRONMENTS = [
    {
        "sys_platform": system,
        "platform_machine": machine,
        "python_version": version,
        "python_full_version": f"{version}.0",
    }
    for system, machines in MACHINES.items()
    for machine in machines
    for version in ("3.11", "3.12", "3.13")
]

PYTHON = """#!/bin/sh
echo "$*" >> "{calls}"
case "$*" in *--constraint*) exit 1 ;; esac
"""
"""A stand-in for .venv/bin/python, for which no pinned version resolves."""


def requirements(environment: dict[str, str]) -> list[Requirement]:
    """Everything that pyproject.toml asks for in an environment, with every extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    asked = [Requirement(line) for line in [*project["dependencies"], *(line for extra in extras for line in extra)]]
    return [each for each in asked if each.marker is None or each.marker.evaluate(environment)]


def pins(environment: dict[str, str]) -> dict[str, Requirement]:
    """The pins that hold in an environment, by name. Two pins for one name fail."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    all_pins = [Requirement(line) for line in lines if not line.startswith("#")]
    here = [each for each in all_pins if each.marker is None or each.marker.evaluate(environment)]
    found: dict[str, Requirement] = {canonicalize_name(each.name): each for each in here}
    assert len(found) == len(here)
    return found


def version_of(pin: Requirement) -> str:
    (exact,) = pin.specifier
    assert exact.operator == "=="
    return exact.version


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda each: "-".join(list(each.values())[:3]))
def test_every_dependency_is_pinned_within_its_range(environment: dict[str, str]) -> None:
    pinned = {name: version_of(pin) for name, pin in pins(environment).items()}
    asked = requirements(environment)
    assert len(asked) > 40
    assert [
        str(each) for each in asked if not each.specifier.contains(pinned.get(canonicalize_name(each.name), ""))
    ] == []


def test_the_constraints_name_no_address() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert re.findall(r"://|@|--|\bindex\b", text) == []


def test_a_wheel_for_cpus_satisfies_the_pin_of_torch() -> None:
    assert pins(ENVIRONMENTS[0])["torch"].specifier.contains("2.13.0+cpu")


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """A folder with the Makefile and a Python that notes its calls in `calls` and refuses every pinned install."""
    if shutil.which("make") is None:
        pytest.skip("this machine has no make")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON.format(calls=tmp_path / "calls"), encoding="utf-8")
    python.chmod(0o755)
    return tmp_path / "calls"


def made(folder: Path, target: str) -> subprocess.CompletedProcess[str]:
    # Inside `make test`, make's own variables would reach this one.
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    words = ["make", "--silent", target]
    return subprocess.run(words, cwd=folder, env=clean, capture_output=True, text=True, check=False)


def test_make_start_falls_back_to_the_ranges_with_a_warning(calls: Path) -> None:
    done = made(calls.parent, ".venv/installed")
    assert done.returncode == 0
    assert done.stderr.startswith("warning: constraints.txt does not resolve here")
    pinned, ranges = [line.split() for line in calls.read_text().splitlines() if " pip install " in line]
    assert [word for word in pinned if word not in ("--constraint", "constraints.txt")] == ranges


def test_make_test_does_not_fall_back(calls: Path) -> None:
    assert made(calls.parent, ".venv/tested").returncode != 0
    assert calls.read_text().count("pip install") == 1
