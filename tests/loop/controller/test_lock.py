"""The lock of a workspace: one holder, named to whoever comes second, and gone with its process."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from wizloop.loop.controller import lock

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


def test_a_workspace_is_held_until_the_block_ends(tmp_path: Path) -> None:
    assert not lock.is_held(tmp_path)
    with lock.held(tmp_path, NOW) as ours:
        assert lock.is_held(tmp_path)
        assert lock.holder(tmp_path) == ours
        with pytest.raises(lock.Held, match=f"is in use by process {ours.pid} on {ours.host}, since 2026-05-0"):
            lock.held(tmp_path, NOW).__enter__()
    assert not lock.is_held(tmp_path)


def test_a_child_that_lives_on_does_not_hold_the_workspace(tmp_path: Path) -> None:
    with lock.held(tmp_path, NOW):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert not lock.is_held(tmp_path)
    child.communicate(b"\n")


def test_a_lock_without_a_readable_holder_still_holds(tmp_path: Path) -> None:
    with lock.held(tmp_path, NOW):
        (tmp_path / lock.LOCK_NAME).write_text("{half a line")
        assert lock.holder(tmp_path) is None
        with pytest.raises(lock.Held, match="is in use by another process"):
            lock.held(tmp_path, NOW).__enter__()
