"""What a command finds out before it works."""

import os
from pathlib import Path

import click
import pytest

from wizloop.loop.commands.common import new_file, new_folder


@pytest.mark.parametrize("check", [new_file, new_folder])
def test_a_place_where_nothing_may_be_written_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], check: object
) -> None:
    assert callable(check)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if os.geteuid() == 0:  # Whom no mode keeps out.
        monkeypatch.setattr(os, "access", lambda path, _: Path(path) != closed)
    check(tmp_path / "new")
    with pytest.raises(click.exceptions.Exit) as ended:
        check(closed / "new")
    assert ended.value.exit_code == 2
    assert f"{closed} is not writable" in capsys.readouterr().err
    assert list(closed.iterdir()) == []
