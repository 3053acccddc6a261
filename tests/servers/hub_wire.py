"""The Hugging Face hub on the loopback, as far as an upload needs it: repositories, preupload, LFS and commits.

It imports nothing of wizloop and nothing of huggingface_hub.
"""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.servers.loopback import Loopback

TOKEN = "hf_fake_0123456789"


@dataclass
class Repository:
    """A model on the hub."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)


class Hub(Loopback):
    """A hub with one user, whose token is TOKEN; use it as a context. `refuses` answers every write with a status."""

    def __init__(self, refuses: int | None = None) -> None:
        self.refuses = refuses
        self.repositories: dict[str, Repository] = {}
        self.stored: dict[str, bytes] = {}
        """Large files by their sha256."""
        self.asked: list[str] = []

    def __enter__(self) -> "Hub":
        server = _Server(("127.0.0.1", 0), _Handler)
        server.hub = self
        self.begin(server)
        return self

    @property
    def url(self) -> str:
        """The hub's address, for HF_ENDPOINT."""
        return f"http://{self.address}"

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Return status and JSON."""
        self.asked.append(f"{method} {path}")
        if path.startswith("/stored/"):
            return self._store(path.removeprefix("/stored/"), body)
        if self.refuses is not None:
            return self.refuses, {"error": "no"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path.endswith(".git/info/lfs/objects/batch"):
            return 200, self._batch(json.loads(body))
        if path.startswith("/api/models/"):
            return self._of_model(method, path.removeprefix("/api/models/"), body)
        return 404, {"error": "not found"}

    def _create(self, asked: Any) -> tuple[int, Any]:
        name = f"{asked['organization']}/{asked['name']}"
        found = {"url": f"{self.url}/{name}"}
        if name in self.repositories:
            return 409, found | {"error": "You already created this model repo"}
        self.repositories[name] = Repository(asked.get("visibility") == "private")
        return 200, found

    def _of_model(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        owner, name, *rest = path.split("/")
        model = self.repositories.get(f"{owner}/{name}")
        if model is None:
            return 404, {"error": "Repository not found"}
        if rest[:1] == ["preupload"]:
            return 200, {"files": [self._mode(one) for one in json.loads(body)["files"]]}
        if rest[:1] == ["commit"]:
            return 200, self._commit(f"{owner}/{name}", model, body)
        shown = {"id": f"{owner}/{name}", "modelId": f"{owner}/{name}", "private": model.private, "sha": "0" * 40}
        return 200, shown | {"siblings": [{"rfilename": each} for each in model.files], "tags": []}

    @staticmethod
    def _mode(one: Any) -> Any:
        large = one["path"].endswith((".safetensors", ".gguf"))
        return {"path": one["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}

    def _batch(self, asked: Any) -> Any:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.url}/stored/{one['oid']}", "header": {}}}}
            for one in asked["objects"]
        ]
        return {"transfer": "basic", "objects": objects}

    def _store(self, oid: str, body: bytes) -> tuple[int, Any]:
        if hashlib.sha256(body).hexdigest() != oid:
            return 400, {"error": "another content"}
        self.stored[oid] = body
        return 200, {}

    def _commit(self, name: str, model: Repository, body: bytes) -> Any:
        for line in body.splitlines():
            one = json.loads(line)
            value = one["value"]
            if one["key"] == "header":
                model.commits.append(value["summary"])
            if one["key"] == "file":
                model.files[value["path"]] = base64.b64decode(value["content"])
            if one["key"] == "lfsFile":
                model.files[value["path"]] = self.stored[value["oid"]]
        oid = "1" * 40
        return {"commitUrl": f"{self.url}/{name}/commit/{oid}", "commitOid": oid, "success": True}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: Hub


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        known = path.startswith("/stored/") or self.headers.get("authorization") == f"Bearer {TOKEN}"
        status, said = self.server.hub.answer(self.command, path, body) if known else (401, {"error": "Invalid token"})
        text = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = _answer

    def log_message(self, format: str, *args: Any) -> None:
        pass
