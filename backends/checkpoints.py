"""The checkpoints of one training, each in a folder that is whole or not there. What stands in one is the backend's
business.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from wizloop.backends import artifacts
from wizloop.backends.guard_types import BadArtifact


class Checkpoints:
    """The checkpoints of one training. `fingerprint` names its data and settings: a checkpoint of another one is not
    used.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder, self._fingerprint = folder, fingerprint
        folder.mkdir(parents=True, exist_ok=True)
        artifacts.sweep(folder)
        for stale in folder.iterdir():
            if stale.is_dir() and not self._is_ours(stale):
                shutil.rmtree(stale)

    @property
    def folder(self) -> Path:
        """Where a training library may leave what nobody reads."""
        return self._folder

    def last(self) -> Path | None:
        return max(self._folder.glob("step-*"), default=None)

    def halvings(self) -> int:
        """How often the rate was halved before the last checkpoint."""
        last = self.last()
        return int(artifacts.about(last)["halvings"]) if last else 0

    def step(self) -> int:
        """Steps that the last checkpoint holds."""
        last = self.last()
        return int(artifacts.about(last)["step"]) if last else 0

    def save(self, step: int, halvings: int, write: Callable[[Path], None]) -> None:
        """Keep what `write` puts into a folder, and drop the checkpoints before it."""
        final = self._folder / f"step-{step:07d}"
        if final.exists():
            return
        older = [path for path in self._folder.glob("step-*") if path != final]
        with artifacts.writing(final, {"step": step, "halvings": halvings, "fingerprint": self._fingerprint}) as folder:
            write(folder)
        for path in older:
            shutil.rmtree(path)

    def remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _is_ours(self, folder: Path) -> bool:
        try:
            artifacts.verify(folder)
        except BadArtifact:
            return False
        return bool(artifacts.about(folder)["fingerprint"] == self._fingerprint)
