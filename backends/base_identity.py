"""Tell whether a model folder is still the one that a run began with, by the files that a loader reads. Loads no model.

A file whose size and time are as they were counts as unchanged and is not read again.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wizloop.backends import artifacts, model_folder

Files = Mapping[str, Mapping[str, Any]]
"""Size in bytes, time in nanoseconds, and sha256 of each file, by name."""

_READ = ("*.safetensors", "*.json", "*.jinja", "*.tiktoken", "tokenizer.model", "merges.txt", "vocab.txt")


def taken(folder: Path, each: Callable[[int, int], None] = lambda done, total: None) -> Files:
    """Hash the files of a folder that a loader reads. `each` is called with how many are done before every file."""
    paths, found = _paths(folder), {}
    for number, path in enumerate(paths):
        each(number, len(paths))
        found[path.name] = {**_stat(path), "sha256": artifacts.sha256_of(path)}
    return found


def sha256(files: Files) -> str:
    """Return one sha256 (hex) of all names and contents; neither sizes nor times count."""
    lines = "".join(f"{files[name]['sha256']}  {name}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def changed(folder: Path, known: Files) -> list[str]:
    """Return the names of files that differ from the known ones, are missing, or are new."""
    paths = {path.name: path for path in _paths(folder)}
    same = {name for name, path in paths.items() if name in known and _same(path, known[name])}
    return sorted({*paths, *known} - same)


def name_base(base: str, to: Path) -> None:
    """Write base.json, with the name of its base (a folder, a file or a hub name), into an exported adapter.

    A folder or a file is named without its path, which is private, and identified by the manifest or the hash of its
    folder; a model of the hub by its revision, if `base` has one (owner/name@revision). PEFT's configuration names the
    hub's model and its revision, so that PEFT finds it.
    """
    path = Path(base).expanduser()
    folder = model_folder.find(base) if path.is_file() else path
    if not path.exists():
        named = _named_on_the_hub(base, to)
    elif (folder / artifacts.MANIFEST).is_file():
        named = {"base": path.name, "manifest_sha256": artifacts.verify(folder)}
    else:
        named = {"base": path.name, "sha256": sha256(taken(folder))}
    (to / "base.json").write_text(json.dumps(named), encoding="utf-8")


def _named_on_the_hub(base: str, to: Path) -> dict[str, str]:
    name, _, revision = base.partition("@")
    path = to / model_folder.ADAPTER_CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    if "peft_type" in config:
        config |= {"base_model_name_or_path": name, "revision": revision or None}
        path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
    return {"base": name, "revision": revision} if revision else {"base": name}


def _paths(folder: Path) -> list[Path]:
    return sorted({path for pattern in _READ for path in folder.glob(pattern) if path.is_file()})


def _stat(path: Path) -> dict[str, int]:
    found = path.stat()
    return {"bytes": found.st_size, "mtime_ns": found.st_mtime_ns}


def _same(path: Path, known: Mapping[str, Any]) -> bool:
    now = _stat(path)
    if now["bytes"] != known["bytes"]:
        return False
    return bool(now["mtime_ns"] == known["mtime_ns"]) or artifacts.sha256_of(path) == known["sha256"]
