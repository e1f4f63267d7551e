"""The command lines of buildah, docker and podman: lists from data. Which of them is here is asked in one place.

They are told nothing by a shell and log in to registries by themselves (`docker login`, `buildah login`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Literal, get_args

from ..errors import UsageError

Builder = Literal["buildah", "docker", "podman"]
BUILDERS: tuple[Builder, ...] = get_args(Builder)

_ORDER: tuple[Builder, ...] = ("docker", "podman", "buildah")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
_ASK_TIMEOUT = 30.0


def build_command(
    builder: Builder,
    *,
    tag: str,
    arguments: Mapping[str, str],
    secrets: Mapping[str, PurePosixPath],
    context: str = "context",
    id_file: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """Builds the image.

    Args:
        builder: Which one.
        tag: The image's name.
        arguments: Build arguments.
        secrets: Files that the build may read and that are in no layer, by id; paths relative to the working directory.
        context: The build context, relative to the working directory; the Dockerfile is in it.
        id_file: The file that the image's id is written to.
        environment: The variables that the command will have.
    """
    command: list[str] = [builder, "build", f"--file={context}/Dockerfile", f"--tag={tag}"]
    if builder == "docker":
        command.append("--progress=plain")
        # The others hand them on by themselves. Without a value, so that a proxy's password is in no list of processes.
        command += [
            f"--build-arg={name}" for name in _PROXIES if (environment or {}).get(name) and name not in arguments
        ]
    else:
        command.append("--layers")
    command += [f"--build-arg={name}={value}" for name, value in arguments.items()]
    command += [f"--secret=id={name},src={path}" for name, path in secrets.items()]
    if id_file is not None:
        command.append(f"--iidfile={id_file}")
    return [*command, context]


def pull_command(builder: Builder, image: str) -> list[str]:
    """Fetches the image as its registry has it now."""
    return [builder, "pull", image]


def digest_command(builder: Builder, image: str) -> list[str]:
    """Prints the digests that the image was pulled with, alone or behind `@`, one a line."""
    if builder == "buildah":
        return [builder, "inspect", "--type=image", "--format={{.FromImageDigest}}", image]
    return [builder, "image", "inspect", "--format={{range .RepoDigests}}{{println .}}{{end}}", image]


def size_command(builder: Builder, image: str) -> list[str]:
    """Prints the image's size: a number of bytes, or with buildah a number and a unit."""
    if builder == "buildah":
        return [builder, "images", "--format={{.Size}}", image]
    return [builder, "image", "inspect", "--format={{.Size}}", image]


def push_command(builder: Builder, tag: str, digest_file: str) -> list[str]:
    """Sends the image to the registry in its name.

    Args:
        builder: Which one.
        tag: The image's name.
        digest_file: The file that the digest is written to; docker has no such option and prints the digest.
    """
    return [builder, "push", tag] if builder == "docker" else [builder, "push", f"--digestfile={digest_file}", tag]


def login_command(builder: Builder, tag: str) -> str:
    """What a person writes to log in to the registry of an image, for a hint."""
    return f"{builder} login {tag.partition('/')[0]}"


def builder_environment(builder: Builder, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of the command: the caller's, and for an older docker the builder that knows secrets."""
    return {**environment, **({"DOCKER_BUILDKIT": "1"} if builder == "docker" else {})}


def find_builder(asked: str | None = None, *, needed: bool = True) -> Builder:
    """The builder that was asked for, else the first that is here and answers.

    Args:
        asked: Its name, or None.
        needed: Whether it must be here; otherwise its command line is only shown.

    Raises:
        UsageError: it is needed and not installed, or none is.
    """
    for builder in _ORDER:
        if asked is None and shutil.which(builder) and _answers(builder):
            return builder
        if asked == builder and shutil.which(builder):
            return builder
    if not needed:
        return next((builder for builder in BUILDERS if builder == asked), "docker")
    here = " (docker is installed, but its daemon does not answer)" if asked is None and shutil.which("docker") else ""
    raise UsageError(
        f"{asked} is not installed." if asked else f"Nothing on this machine can build an image{here}.",
        hint="Install buildah, docker or podman (on Debian and Ubuntu: apt-get install buildah crun), or write the "
        "build context and build it elsewhere: --write-context DIRECTORY",
        code="no_builder",
    )


def _answers(builder: Builder) -> bool:
    if builder != "docker":
        return True
    # The client alone builds nothing: its daemon must answer.
    try:
        asked = subprocess.run(
            ["docker", "version", "--format={{.Server.Version}}"],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=_ASK_TIMEOUT, check=False, env=dict(os.environ),
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return False
    return asked.returncode == 0
