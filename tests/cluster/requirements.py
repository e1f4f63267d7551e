"""What this machine must have for a node, and on Debian as root: getting it. Knows no part's command line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .cache import run, say
from .components import cni_programs

if TYPE_CHECKING:
    from collections.abc import Callable

_OLDEST_GO = (1, 21)
"""The first that fetches the exact Go version that a module asks for."""


@dataclass(frozen=True)
class _Need:
    package: str
    present: Callable[[], bool]


def _program(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name) is not None


# By what they must give and not by what is installed: another package may give it (containerd.io has containerd and runc).
_NEEDS = (
    _Need("containerd", lambda: all(map(shutil.which, ("containerd", "ctr", "containerd-shim-runc-v2")))),
    _Need("runc", _program("runc")),
    _Need("containernetworking-plugins", lambda: cni_programs() is not None),
    _Need("etcd-server", _program("etcd")),
    _Need("iptables", _program("iptables")),
    _Need("iproute2", _program("ip")),
    _Need("util-linux", lambda: all(map(shutil.which, ("unshare", "nsenter", "setpriv")))),
    _Need("mount", _program("mount")),
    _Need("openssl", _program("openssl")),
    _Need("debootstrap", _program("debootstrap")),
    _Need("debian-archive-keyring", Path("/usr/share/keyrings/debian-archive-keyring.gpg").exists),
    _Need("buildah", _program("buildah")),
)


def wrong_machine() -> list[str]:
    """Why no node can be on this machine whatever is installed, a sentence each."""
    if not sys.platform.startswith("linux"):
        return [f"it needs Linux, and this is {sys.platform}"]
    if os.geteuid() != 0:
        return ["it needs root, to make namespaces, mounts and control groups"]
    return []


def missing() -> list[str]:
    """Why no node can be on this machine, a sentence each; what can be installed is installed first.

    Returns:
        Empty when everything is there.
    """
    if reasons := wrong_machine():
        return reasons
    # System administrators' programs are not on every root's path.
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    wanted = [need.package for need in _NEEDS if not need.present()]
    if wanted and shutil.which("apt-get"):
        _install(wanted)
        wanted = [need.package for need in _NEEDS if not need.present()]
    reasons = [f"not installed, by Debian's name: {' '.join(wanted)}"] if wanted else []
    reasons += _go_reasons()
    return reasons if reasons else _namespace_reasons()


def _install(packages: list[str]) -> None:
    say(f"Installing {' '.join(packages)}")
    start = time.monotonic()
    before = _services()
    # --no-remove: a containerd of Docker's must not be replaced by Debian's.
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    patient = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "-q", "-y"]
    run([*patient, "update"], environment=quiet)
    run([*patient, "install", "--no-install-recommends", "--no-remove", *packages], environment=quiet)
    for service in _services() - before:
        # The node starts what it needs by itself, in its own namespaces.
        run(["systemctl", "disable", "--now", service])
    say(f"Installing: done in {time.monotonic() - start:.0f} s")


def _services() -> set[str]:
    """Of the services that the packages bring, those that systemd starts."""
    if not Path("/run/systemd/system").is_dir():
        return set()
    known = ("containerd.service", "etcd.service")
    return {
        name for name in known
        if subprocess.run(["systemctl", "is-enabled", "--quiet", name], capture_output=True, check=False).returncode == 0
    }  # fmt: skip


def _go_reasons() -> list[str]:
    advice = "from https://go.dev/dl"
    if shutil.which("go") is None:
        return [f"Go is not installed: {advice}"]
    text = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout.strip()
    found = re.match(r"go(\d+)\.(\d+)", text)
    if found is None or (int(found[1]), int(found[2])) < _OLDEST_GO:
        return [f"Go is too old ({text or 'unknown'}, needs {'.'.join(map(str, _OLDEST_GO))}): {advice}"]
    return []


def _namespace_reasons() -> list[str]:
    trial = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--net", "--ipc", "--uts", "true"]
    done = subprocess.run(trial, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return [f"this root may not make namespaces (in a container: run it privileged): {done.stderr.strip()}"]
    return []
