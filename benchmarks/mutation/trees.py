"""Copy the project into trees in which mutants are tried: nothing of the person's own is ever touched.

A tree imports `wizloop` from itself: a folder in front of the search path has links by the names of the packages.
"""

import hashlib
import os
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path

LEFT_OUT = {"build", "dist", "runs", "site"}
"""Folders at the root that hold what was made, beside hidden ones."""
PATH = Path("build") / "path"
PLUGIN = "mutants_plugin"


@dataclass(frozen=True)
class Tree:
    """A copy of the project."""

    folder: Path

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of a process that imports from the tree."""
        return {**os.environ, "PYTHONPATH": str(self.folder / PATH), "COVERAGE_CORE": "ctrace", **more}


def copy(root: Path, to: Path) -> Tree:
    """Make a tree, in place of the one that is there."""
    shutil.rmtree(to, ignore_errors=True)
    everywhere = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__")

    def left_out(folder: str, names: list[str]) -> set[str]:
        return {*everywhere(folder, names), *(LEFT_OUT & set(names) if Path(folder) == root else ())}

    shutil.copytree(root, to, ignore=left_out, symlinks=True)
    path = to / PATH
    path.mkdir(parents=True)
    _link(packages(root), to, path)
    shutil.copy(Path(__file__).with_name("plugin.py"), path / f"{PLUGIN}.py")
    return Tree(to)


def packages(root: Path) -> dict[str, str]:
    """Return the folder of each package, by its name, as the build finds it."""
    told = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    found: dict[str, str] = told["tool"]["setuptools"]["package-dir"]
    return dict(sorted(found.items()))


def digests(root: Path, tests: list[str]) -> dict[str, str]:
    """Return a digest by test file, of the file and of all that every test may use: the code and the tests' helpers.

    Raises FileNotFoundError for a place without tests.
    """
    files = sorted(path for each in tests for path in _test_files(root / each))
    every = hashlib.sha256()
    for path in sorted([root / "pyproject.toml", *_shared(root, set(files))]):
        every.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return {
        str(path.relative_to(root)): hashlib.sha256(every.digest() + path.read_bytes()).hexdigest()[:16]
        for path in files
    }


def _shared(root: Path, own: set[Path]) -> list[Path]:
    tops = {Path(folder).parts[0] for folder in packages(root).values() if Path(folder).parts}
    code = [path for top in tops for path in (root / top).rglob("*") if path.is_file() and path.suffix != ".pyc"]
    helpers = [path for path in _python(root / "tests") if not path.name.startswith("test_")]
    return [path for path in {*code, *helpers} if path not in own]


def _test_files(place: Path) -> list[Path]:
    found = [path for path in _python(place) if path.name.startswith("test_")]
    if not found:
        raise FileNotFoundError(f"{place} holds no test")
    return found


def _python(place: Path) -> list[Path]:
    return [place] if place.is_file() else sorted(place.rglob("*.py"))


def _link(found: dict[str, str], tree: Path, path: Path) -> None:
    for name, folder in found.items():
        parent, _, last = name.rpartition(".")
        if parent in found and Path(found[parent], last) == Path(folder):
            continue
        here, there = path / name.replace(".", "/"), tree / folder
        here.parent.mkdir(parents=True, exist_ok=True)
        if any(
            other.startswith(f"{name}.") and not Path(at).is_relative_to(Path(folder, ""))
            for other, at in found.items()
        ):
            here.mkdir()
            for file in there.glob("*"):
                if file.is_file():
                    (here / file.name).symlink_to(file.resolve())
        else:
            here.symlink_to(there.resolve(), target_is_directory=True)
