"""Benchmarks run as a person runs them, and what they print; most in this process, which loads their libraries once."""

import contextlib
import importlib.util
import io
import json
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

from tests.where import ROOT

FOLDER: Final = ROOT / "benchmarks"


def printed(name: str, *words: str) -> str:
    """What `python benchmarks/NAME WORDS` prints. Raises SystemExit where it ends with anything but success."""
    out = io.StringIO()
    with _as_a_program(name, *words), contextlib.redirect_stdout(out):
        try:
            runpy.run_path(str(FOLDER / name), run_name="__main__")
        except SystemExit as end:
            if end.code:
                end.add_note(out.getvalue())
                raise
    return out.getvalue()


def printed_apart(name: str, *words: str) -> str:
    """The same in a process of its own, for what forks. Raises CalledProcessError."""
    done = subprocess.run([sys.executable, str(FOLDER / name), *words], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def module(name: str) -> ModuleType:
    """A benchmark's functions, with nothing run."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{Path(name).stem}", FOLDER / name)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    with _as_a_program(name):
        spec.loader.exec_module(made)
    return made


def objects(text: str) -> list[Any]:
    """The JSON values that stand one after the other in a text."""
    decoder, found, rest = json.JSONDecoder(), [], text.lstrip()
    while rest:
        one, end = decoder.raw_decode(rest)
        found.append(one)
        rest = rest[end:].lstrip()
    return found


@contextlib.contextmanager
def _as_a_program(name: str, *words: str) -> Iterator[None]:
    """The arguments and the search path of a program, taken back afterwards with what it imported from its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(FOLDER / name), *words])
        patch.setattr(sys, "path", [str(FOLDER), *sys.path])
        try:
            yield
        finally:
            for path in FOLDER.glob("*.py"):
                sys.modules.pop(path.stem, None)
