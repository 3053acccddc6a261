"""A workspace whose folder takes no file: it is read, and what cannot be written says so."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wizloop.store import errors, overview, reviews
from wizloop.store.db import Store
from wizloop.store.status import run_status


@contextmanager
def closed(folder: Path) -> Iterator[None]:
    """The folder, closed to writing: by its mode, or for the superuser by a mount."""
    if os.geteuid() != 0:
        folder.chmod(0o555)
        yield
        folder.chmod(0o755)
        return
    there = ["mount", "--bind", str(folder), str(folder)]
    again = ["mount", "-o", "remount,ro,bind", str(folder)]
    if shutil.which("mount") is None or any(
        subprocess.run(each, capture_output=True).returncode for each in (there, again)
    ):
        pytest.skip("nothing can be mounted here, and modes do not bind the superuser")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_copy_that_takes_no_file_is_read_and_says_that_nothing_was_kept(after_a_night: Path) -> None:
    with closed(after_a_night), Store.open(after_a_night) as store:
        with store.read() as db:
            found = overview.overview(db)
            assert (found.run.name, found.to_review) == ("demo", 2)
            assert run_status(after_a_night).to_review == 2
            now = found.run.created_at
        with pytest.raises(errors.ReadOnly, match="is not writable"), store.write() as db:
            reviews.review(db, trace_id=1, decision="approve", by="person:ann", now=now, decision_id="never")
    with Store.open(after_a_night, readonly=True) as store, store.read() as db:
        assert len(reviews.log(db, 1)) == 1
