"""A registry of container images on this machine, for tests that push and pull. Knows no Kubernetes."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cache import ClusterError, Recipe, ensure, run
from .lifecycle import MissingError
from .places import machine

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE = 60.0
_PROGRAM = "docker-registry"
_MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")


@dataclass(frozen=True)
class Registry:
    """A registry that is up."""

    address: str
    """Host and port, as images' names begin."""

    files: Path
    """Where it keeps what was pushed."""

    def digest(self, repository: str, tag: str) -> str:
        """What the registry has under this name."""
        return str(self._get(f"{repository}/manifests/{tag}")[0]["Docker-Content-Digest"])

    def config(self, repository: str, reference: str) -> dict[str, Any]:
        """The configuration of an image, by tag or digest: user, labels, history."""
        manifest = json.loads(self._get(f"{repository}/manifests/{reference}")[1])
        found: dict[str, Any] = json.loads(self._get(f"{repository}/blobs/{manifest['config']['digest']}")[1])
        return found

    def blobs(self) -> list[Path]:
        """The files of everything that was pushed."""
        return [path for path in self.files.rglob("data") if path.is_file()]

    def _get(self, path: str) -> tuple[Any, bytes]:
        request = urllib.request.Request(f"http://{self.address}/v2/{path}", headers={"Accept": ", ".join(_MANIFESTS)})
        with urllib.request.urlopen(request) as answer:
            return answer.headers, answer.read()


@contextmanager
def registry(directory: Path) -> Iterator[Registry]:
    """Start one on 127.0.0.1.

    Args:
        directory: An empty directory for what it writes.

    Raises:
        MissingError: If it is not installed and cannot be fetched.
        ClusterError: If it does not start.
    """
    program = _program()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    files, settings, log = directory / "files", directory / "registry.json", directory / "registry.log"
    # JSON is YAML too.
    settings.write_text(
        json.dumps(
            {
                "version": "0.1",
                "log": {"level": "warn"},
                "storage": {"filesystem": {"rootdirectory": str(files)}},
                "http": {"addr": address},
            }
        )
    )
    with log.open("w") as output:
        process = subprocess.Popen([program, "serve", settings], stdout=output, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + _PATIENCE
        while not _answers(address):
            if process.poll() is not None or time.monotonic() > until:
                raise ClusterError(f"the registry does not start: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield Registry(address, files)
    finally:
        process.terminate()
        process.wait()


def _program() -> Path:
    """Debian's package, unpacked and not installed: no service of it is to be started."""
    found = shutil.which(_PROGRAM)
    if found:
        return Path(found)
    if shutil.which("apt-get") is None:
        raise MissingError([f"not installed, by Debian's name: {_PROGRAM}"])

    def unpack(directory: Path) -> None:
        run(["apt-get", "download", _PROGRAM], cwd=directory)
        run(["dpkg-deb", "--extract", next(directory.glob("*.deb")), directory])

    recipe = Recipe(title="Fetching a registry", kind="registry", key=machine(), expected="seconds", build=unpack)
    return ensure(recipe) / "usr" / "bin" / _PROGRAM


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/v2/", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextmanager
def empty_registry(host: str = "127.0.0.1") -> Iterator[str]:
    """A registry that answers and has no image; gives its address."""

    class Nothing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path in ("/v2", "/v2/")
            body = b"{}" if found else b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}'
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((host, 0), Nothing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
