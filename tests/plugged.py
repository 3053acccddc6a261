"""Makes packages with plugins visible to this process: a dist-info folder on sys.path, with no pip and no network."""

import os
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.where import ROOT
from wizloop import plugins

PACKAGE = ROOT / "tests" / "plugin_package"


def described(folder: Path, name: str, version: str, groups: Mapping[str, Mapping[str, str]]) -> Path:
    """Write into a folder what pip writes when it installs a package with these entry points."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in of.items()) for group, of in groups.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return folder


def extras(folder: Path) -> Path:
    """Install the test package into a folder."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    described(folder, project["name"], project["version"], project["entry-points"])
    (folder / "wizloop_extras.py").write_text((PACKAGE / "wizloop_extras.py").read_text())
    return folder


def forget() -> None:
    """Have the next look-up see what is installed then."""
    plugins.installed.cache_clear()
    plugins.load.cache_clear()
    sys.modules.pop("wizloop_extras", None)


def seen(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[Path]:
    """Have this process, and those that it starts, see what is installed in a folder."""
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))
    forget()
    yield folder
    forget()
