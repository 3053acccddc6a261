"""Pushes to a hub on the loopback that speaks the real one's wire: what arrives, who may see it, what is refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.hub_wire import TOKEN, Hub, Repository
from wizloop.backends import hub_upload

PUSH = """
import sys
from pathlib import Path
from wizloop.backends import hub_upload
try:
    print(hub_upload.push(Path(sys.argv[1]), "me/guard", public=sys.argv[2] == "public"))
except hub_upload.PushError as error:
    sys.exit(str(error))
"""
FILES = {"README.md": b"---\ntags: [guard]\n---\n# Guard\n", "model.safetensors": b"\0" * 4096, "guard.json": b"{}"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "guard"
    made.mkdir()
    for name, content in FILES.items():
        (made / name).write_bytes(content)
    return made


def push(url: str, folder: Path, kind: str = "private", token: str = TOKEN) -> "subprocess.CompletedProcess[str]":
    """Push in a process of its own: the hub's library reads its variables once."""
    given = {"HF_ENDPOINT": url, "HF_TOKEN": token, "HF_HOME": str(folder.parent / "hf"), "HF_HUB_DISABLE_XET": "1"}
    words = [sys.executable, "-c", PUSH, str(folder), kind]
    return subprocess.run(words, env=os.environ | given, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("kind", ["private", "public"])
def test_the_folder_arrives_as_one_commit(folder: Path, kind: str) -> None:
    with Hub() as hub:
        done = push(hub.url, folder, kind)
        assert (done.returncode, done.stdout) == (0, f"{hub.url}/me/guard\n"), done.stderr
    made = hub.repositories["me/guard"]
    assert made.files == FILES
    assert made.private is (kind == "private")
    assert len(made.commits) == 1
    assert "POST /me/guard.git/info/lfs/objects/batch" in hub.asked
    assert TOKEN not in done.stdout + done.stderr


def test_a_public_model_is_not_pushed_to_unasked(folder: Path) -> None:
    with Hub() as hub:
        hub.repositories["me/guard"] = Repository(private=False)
        done = push(hub.url, folder)
        assert (done.returncode, done.stdout) == (1, "")
        assert "me/guard is public: add --public to push there" in done.stderr
        assert hub.repositories["me/guard"].files == {}
        assert push(hub.url, folder, "public").returncode == 0


@pytest.mark.parametrize(
    ("refuses", "token", "said"),
    [
        (None, "hf_another", "the hub does not accept the token: run `hf auth login`, or set HF_TOKEN"),
        (None, "", "the hub does not accept the token"),
        (403, TOKEN, "the hub does not accept the token"),
        (400, TOKEN, "the hub answered 400: try again"),
    ],
)
def test_what_the_hub_refuses_is_a_sentence_without_the_token(
    folder: Path, refuses: int | None, token: str, said: str
) -> None:
    with Hub(refuses) as hub:
        done = push(hub.url, folder, token=token)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"me/guard: not pushed: {said}" in done.stderr
    assert TOKEN not in done.stderr
    assert "hf_another" not in done.stderr


def test_a_hub_that_is_not_there_is_a_sentence(folder: Path) -> None:
    with Hub() as hub:
        gone = hub.url
    done = push(gone, folder)
    assert "me/guard: not pushed: the hub cannot be reached" in done.stderr


def test_the_card_is_listed_first(folder: Path) -> None:
    assert hub_upload.plan(folder) == [
        ("README.md", len(FILES["README.md"])),
        ("guard.json", 2),
        ("model.safetensors", 4096),
    ]


@pytest.mark.parametrize("name", ["guard", "a/b/c", "me/gu ard", "me/..", "https://hub/me/guard", ""])
def test_a_name_that_is_none_is_refused_before_any_work(name: str) -> None:
    with pytest.raises(ValueError, match=r"hub|OWNER"):
        hub_upload.check_name(name)
