"""Kubernetes, CoreDNS, KWOK and the pause program, compiled from their published Go modules. Knows no cluster."""

from __future__ import annotations

import json
import re
from pathlib import Path

from .cache import ClusterError, Recipe, digest, ensure, run
from .places import COREDNS_VERSION, KUBERNETES_VERSION, KWOK_VERSION, machine

_PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
# Whatever the caller's settings, these builds depend on the module graph alone.
_GO = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod -buildvcs=false -trimpath", "GOWORK": "off"}
_SMALL = "-s -w"


def kubernetes() -> Path:
    """The directory with Kubernetes' programs."""
    flags = f"{_SMALL} {_version_flags()}"
    return ensure(
        Recipe(
            title=f"Compiling Kubernetes {KUBERNETES_VERSION}",
            kind="kubernetes",
            key=f"{KUBERNETES_VERSION}-{machine()}-{digest(flags, *_PROGRAMS)}",
            expected="about 5 minutes on 2 cores",
            build=lambda directory: _build_kubernetes(directory, flags),
        )
    )


def coredns() -> Path:
    """The CoreDNS program."""
    directory = ensure(
        Recipe(
            title=f"Compiling CoreDNS {COREDNS_VERSION}",
            kind="coredns",
            key=f"{COREDNS_VERSION}-{machine()}",
            expected="about 3 minutes on 2 cores",
            build=lambda directory: _go_install(directory, f"github.com/coredns/coredns@v{COREDNS_VERSION}"),
        )
    )
    return directory / "coredns"


def kwok() -> Path:
    """The program that plays the kubelets of simulated nodes; only the test of many runs needs it."""
    directory = ensure(
        Recipe(
            title=f"Compiling KWOK {KWOK_VERSION}",
            kind="kwok",
            key=f"{KWOK_VERSION}-{machine()}",
            expected="about 2 minutes on 2 cores",
            build=lambda directory: _go_install(directory, f"sigs.k8s.io/kwok/cmd/kwok@v{KWOK_VERSION}"),
        )
    )
    return directory / "kwok"


def pause() -> Path:
    """The program that holds a pod's namespaces open."""
    source = Path(__file__).parent / "pause" / "main.go"
    directory = ensure(
        Recipe(
            title="Compiling the pause program",
            kind="pause",
            key=f"{machine()}-{digest(source.read_bytes())}",
            expected="a few seconds",
            build=lambda directory: _go_build(source.parent, directory / "pause", [source.name], _SMALL),
        )
    )
    return directory / "pause"


def _build_kubernetes(directory: Path, flags: str) -> None:
    module = f"k8s.io/kubernetes@v{KUBERNETES_VERSION}"
    staging = f"v0.{KUBERNETES_VERSION.partition('.')[2]}"
    found = json.loads(run(["go", "mod", "download", "-json", module], environment=_GO))
    text = Path(found["GoMod"]).read_text(encoding="utf-8")
    # Kubernetes' own go.mod points at its staging folders, which are not in the module: each is published by itself.
    staged = re.findall(r"^\s+(k8s\.io/[a-z0-9-]+) => \./staging", text, re.MULTILINE)
    if not staged:
        raise ClusterError(f"{module} names no staging modules; the build recipe does not fit this version")
    source = directory / "source"
    source.mkdir()
    run(["go", "mod", "init", "test.invalid/kubernetes"], environment=_GO, cwd=source)
    run(
        ["go", "mod", "edit", f"-require={module}", *(f"-replace={name}={name}@{staging}" for name in staged)],
        cwd=source,
    )
    packages = [f"k8s.io/kubernetes/cmd/{program}" for program in _PROGRAMS]
    _go_build(source, directory, packages, flags)
    for file in source.iterdir():
        file.unlink()
    source.rmdir()


def _go_install(directory: Path, package: str) -> None:
    run(["go", "install", "-ldflags", _SMALL, package], environment={**_GO, "GOBIN": str(directory)})


def _go_build(source: Path, target: Path, packages: list[str], flags: str) -> None:
    suffix = "/" if target.is_dir() else ""
    run(["go", "build", "-ldflags", flags, "-o", f"{target}{suffix}", *packages], environment=_GO, cwd=source)


def _version_flags() -> str:
    """What Kubernetes' own build stamps into its programs; without it they call themselves v0.0.0-master."""
    major, minor, _ = KUBERNETES_VERSION.split(".")
    values = {"gitVersion": f"v{KUBERNETES_VERSION}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return " ".join(f"-X {package}.{name}={value}" for package in packages for name, value in values.items())
