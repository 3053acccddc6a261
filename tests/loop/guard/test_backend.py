"""What a backend does before a library is asked: no adapter of a bare base, and formats by way of another."""

from pathlib import Path

import pytest

from wizloop.backends.guard_types import BackendError
from wizloop.loop.guard import backend


def test_a_base_that_was_never_taught_has_no_adapter_to_export(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="base was never taught, so it has no adapter: export safetensors"):
        backend.Mlx().export("adapter", "base", None, tmp_path)


def test_a_format_is_written_from_a_merged_folder_that_a_sweep_would_know(tmp_path: Path) -> None:
    seen: list[object] = []

    def merge(base: str, adapter: Path | None, to: Path) -> None:
        (to / "merged").write_text(base)
        seen.append((base, adapter))

    def write(base: str, adapter: Path | None, to: Path) -> None:
        seen.append(((Path(base) / "merged").read_text(), adapter, to))
        assert Path(base).parent == tmp_path
        assert Path(base).name.startswith("tmp-")

    backend._by_way_of(merge, write, "base", tmp_path / "adapter", tmp_path / "out")
    assert seen == [("base", tmp_path / "adapter"), ("base", None, tmp_path / "out")]
    assert list(tmp_path.iterdir()) == []
