"""Running a builder: its lines, its end, its digest. The real builds are in tests/cluster.

The programs of these tests are small scripts where only docker's own words matter: docker has no daemon here.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from jupyter_mlops.errors import ImageError
from jupyter_mlops.image import build as room
from jupyter_mlops.image.build import prepare_context, push_image
from jupyter_mlops.image.lock import contents_of
from jupyter_mlops.image.pip_settings import PipSettings
from jupyter_mlops.image.projects import Project

from .environments import WHOLE, environment, package, product

DIGEST = "sha256:" + "ab" * 32


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A docker that does what a test writes into it."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
    file = directory / "docker"
    file.touch(0o755)
    return file


def test_a_push_by_docker_tells_the_digest_of_its_last_line(docker: Path) -> None:
    docker.write_text(
        "#!/bin/sh\necho 'The push refers to repository [r.example.org/team/t]'\n"
        f"echo '5f70bf18a086: Layer already exists'\necho '1: digest: {DIGEST} size: 1784'\n"
    )
    told: list[str] = []
    assert push_image("r.example.org/team/t:1", builder="docker", say=told.append) == f"r.example.org/team/t@{DIGEST}"
    assert told[0] == "$ docker push r.example.org/team/t:1"
    assert told[-1].startswith("1: digest")


def test_a_push_that_is_refused_says_how_to_log_in(docker: Path) -> None:
    docker.write_text("#!/bin/sh\necho 'denied: requested access to the resource is denied' >&2\nexit 1\n")
    with pytest.raises(ImageError, match="The registry refused") as failed:
        push_image("r.example.org/team/t:1", builder="docker", say=lambda _: None)
    assert failed.value.hint == "Log in: docker login r.example.org"


def test_a_push_without_a_digest_is_no_success(docker: Path) -> None:
    docker.write_text("#!/bin/sh\necho done\n")
    with pytest.raises(ImageError, match="did not tell its digest"):
        push_image("r.example.org/team/t:1", builder="docker", say=lambda _: None)


def test_lines_arrive_while_the_builder_works_and_bytes_that_are_no_text_do_not_stop_it(docker: Path) -> None:
    docker.write_text(
        f"#!{sys.executable}\nimport os, time\nos.write(1, b'\\xff first\\n')\ntime.sleep(0.5)\nprint('last')\n"
    )
    arrived: dict[str, float] = {}
    status, output = room._run("docker", ["docker"], lambda line: arrived.setdefault(line, time.monotonic()), None)
    assert (status, output) == (0, ["\ufffd first", "last"])
    assert arrived["last"] - arrived["\ufffd first"] > 0.3


def test_who_does_not_want_to_wait_ends_the_builder_too(docker: Path, tmp_path: Path) -> None:
    docker.write_text("#!/bin/sh\necho $$\nexec sleep 1000\n")
    pid: list[int] = []

    def interrupt(line: str) -> None:
        pid.append(int(line))
        threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        room._run("docker", ["docker"], interrupt, None)
    with pytest.raises(ProcessLookupError):
        os.kill(pid[0], 0)


def test_secrets_are_written_for_the_owner_alone_and_outside_of_the_context(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(b"certificates")
    found = room._write_secrets(PipSettings("[global]\n", bundle), tmp_path)
    assert {name: (tmp_path / path).read_bytes() for name, path in found.items()} == {
        "pip.conf": b"[global]\n",
        "certificates.pem": b"certificates",
    }
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0
    assert all(path.parts[0] == "secrets" for path in found.values())
    with pytest.raises(ImageError, match="cannot be read"):
        room._write_secrets(PipSettings("", tmp_path / "gone.pem"), tmp_path)


def test_a_context_has_the_versions_of_its_wheels(tmp_path: Path) -> None:
    wheel = tmp_path / "jupyter_mlops-0.4.0-py3-none-any.whl"
    wheel.write_bytes(b"PK")
    packages = [dist for dist in WHOLE if dist.name != "jupyter-mlops"]
    contents = contents_of(environment(*packages, package("jupyter-mlops", "0.3.0", "local")), product=product())
    told: list[str] = []
    made = prepare_context(contents, [Project("jupyter-mlops", "0.3.0", wheel)], tmp_path / "context", told.append)
    assert made.versions["jupyter-mlops"] == "0.4.0"
    assert (tmp_path / "context" / "wheels" / wheel.name).read_bytes() == b"PK"
    assert any("0.4.0" in line for line in told)


def test_a_context_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match="cannot be written"):
        prepare_context(contents_of(environment(*WHOLE), product=product()), [], tmp_path / "file", print)
