"""What lies on disk gets into the wheel: the package list is written by hand, and a new folder is easily forgotten."""

import re
import tomllib

from tests.where import ROOT

ROOMS = ("loop", "backends", "store", "tui", "recipes", "console")


def test_every_folder_with_code_is_a_listed_package() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {ROOT, *(path.parent for room in ROOMS for path in (ROOT / room).rglob("*.py"))}
    on_disk = {".".join(["wizloop", *folder.relative_to(ROOT).parts]) for folder in folders}
    assert set(listed["packages"]) == on_disk
    assert {(ROOT / folder).resolve() for folder in listed["package-dir"].values()} == folders


def test_the_tests_named_beside_pins_are_there() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    files = re.findall(r"tests/[\w/]+\.py", text)
    assert len(files) >= 6
    assert [file for file in files if not (ROOT / file).is_file()] == []
