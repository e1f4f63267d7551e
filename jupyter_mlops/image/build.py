"""Builds and pushes an image with a builder of this machine: the whole story, read top to bottom.

Decides nothing: what goes in is in the plan, and what a failure means is in the diagnosis.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ..errors import ImageError
from .builders import (
    Builder,
    build_command,
    builder_environment,
    digest_command,
    login_command,
    pull_command,
    push_command,
    size_command,
)
from .diagnosis import explain
from .lock import Contents
from .plan import Base, build_arguments, context_files, repository, shown_command, write_context
from .projects import make_wheels

if TYPE_CHECKING:
    from .pip_settings import PipSettings
    from .projects import Project

_KEPT_LINES = 400
"""Of the builder's output, for the diagnosis."""

_GRACE = 10.0
"""Seconds that a builder has to end when the person does not want to wait."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

Say = Callable[[str], object]


@dataclass(frozen=True)
class Built:
    """An image that was built.

    Attributes:
        tag: Its name.
        image_id: The builder's id of it, "sha256:…"; no registry knows it.
        size: As the builder tells it; empty when it does not.
        base: What it was built on.
    """

    tag: str
    image_id: str
    size: str
    base: Base


def build_image(
    contents: Contents,
    projects: Sequence[Project],
    *,
    tag: str,
    base: str,
    given: Mapping[str, str],
    builder: Builder,
    pip: PipSettings,
    say: Say,
) -> Built:
    """Build an image.

    Args:
        contents: What goes in.
        projects: Where the packages are that are in no index.
        tag: The image's name.
        base: The image to build on.
        given: Build arguments of the person.
        builder: Who builds.
        pip: Where the build's pip looks.
        say: Called with each line for the person.

    Raises:
        ImageError: it failed; the message says why.
    """
    with tempfile.TemporaryDirectory(prefix="jupyter-mlops-image-") as temporary:
        place = Path(temporary)
        contents = prepare_context(contents, projects, place / "context", say)
        secrets = _write_secrets(pip, place)
        found = _pulled(builder, base, say)
        command = build_command(
            builder,
            tag=tag,
            arguments=build_arguments(contents, found, given),
            secrets=secrets,
            id_file="image-id",
            environment=os.environ,
        )
        say(f"$ {shown_command(command)}")
        status, output = _run(builder, command, say, place)
        if status != 0:
            raise explain(output, doing="built", login=login_command(builder, base))
        image_id = (place / "image-id").read_text(encoding="utf-8").strip()
    return Built(tag, image_id, _size(builder, tag), found)


def prepare_context(contents: Contents, projects: Sequence[Project], directory: Path, say: Say) -> Contents:
    """Make the wheels and write the build context.

    Args:
        contents: What goes in.
        projects: Where the packages are that are in no index.
        directory: Where the context is written; made if it is not there.
        say: Called with each line for the person.

    Returns:
        The contents with the versions that the wheels have.

    Raises:
        ImageError: a wheel cannot be made, or the context cannot be written.
    """
    from dataclasses import replace

    with tempfile.TemporaryDirectory(prefix="jupyter-mlops-wheels-") as temporary:
        for project in projects:
            say(f"Making a wheel of {project.name} from {project.path}")
        wheels = make_wheels(projects, Path(temporary), say)
        made = {wheel.name: wheel.version for wheel in wheels if wheel.name in contents.versions}
        contents = replace(contents, versions={**contents.versions, **made})
        try:
            write_context(context_files(contents, wheels), directory)
        except OSError as error:
            raise ImageError(
                f"The build context cannot be written to {directory}: {error.strerror or error}."
            ) from error
    return contents


def push_image(tag: str, *, builder: Builder, say: Say) -> str:
    """Send an image to the registry in its name.

    Args:
        tag: The image's name.
        builder: Who has it.
        say: Called with each line for the person.

    Returns:
        The name by digest, as a profile takes it: it names these bytes whatever the tag will mean later.

    Raises:
        ImageError: the registry refused or does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="jupyter-mlops-image-") as temporary:
        command = push_command(builder, tag, "digest")
        say(f"$ {shown_command(command)}")
        status, output = _run(builder, command, say, Path(temporary))
        if status != 0:
            raise explain(output, doing="pushed", login=login_command(builder, tag))
        with suppress(OSError):
            output = [*output, (Path(temporary) / "digest").read_text(encoding="utf-8")]
    # Docker prints it in its last line, "TAG: digest: sha256:… size: …".
    for line in reversed(output):
        found = _DIGEST.search(line)
        if found:
            return f"{repository(tag)}@{found[0]}"
    raise ImageError(f"The image {tag} was pushed, and {builder} did not tell its digest.")


def secret_files(pip: PipSettings) -> dict[str, PurePosixPath]:
    """The secrets of a build by id, and where it finds them relative to its directory."""
    return {name: PurePosixPath("secrets", name) for name in pip.secrets()}


def _write_secrets(pip: PipSettings, place: Path) -> dict[str, PurePosixPath]:
    found = secret_files(pip)
    for name, content in pip.secrets().items():
        target = place / found[name]
        target.parent.mkdir(exist_ok=True, mode=0o700)
        try:
            target.write_bytes(content.read_bytes() if isinstance(content, Path) else content.encode())
        except OSError as error:
            raise ImageError(
                f"The certificates {pip.certificates} cannot be read: {error.strerror or error}.",
                hint="pip's configuration or one of the variables PIP_CERT, REQUESTS_CA_BUNDLE and SSL_CERT_FILE names "
                "them.",
            ) from error
    return found


def _pulled(builder: Builder, base: str, say: Say) -> Base:
    """The base as its registry has it now, with the digest that pins the build to it."""
    if "@" in base:
        return Base(base, base.partition("@")[2])
    command = pull_command(builder, base)
    say(f"$ {shown_command(command)}")
    status, output = _run(builder, command, say, None)
    told = _ask(builder, digest_command(builder, base))
    if status != 0:
        if told is None:
            raise explain(output, doing="built", login=login_command(builder, base))
        say(f"{base} was not found in a registry: the one that {builder} has is used, and no digest is recorded.")
        return Base(base)
    wanted = [line for line in (told or "").split() if "@" not in line or line.partition("@")[0] == repository(base)]
    found = _DIGEST.search(" ".join(wanted or (told or "").split()))
    return Base(base, found[0] if found else "")


def _size(builder: Builder, tag: str) -> str:
    told = (_ask(builder, size_command(builder, tag)) or "").strip()
    return f"{int(told) / 1e6:.0f} MB" if told.isdecimal() else told


def _ask(builder: Builder, command: Sequence[str]) -> str | None:
    """What a short command prints; None when it fails."""
    done = subprocess.run(
        command, env=builder_environment(builder, os.environ), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        errors="replace", check=False,
    )  # fmt: skip
    return done.stdout if done.returncode == 0 else None


def _run(builder: Builder, command: Sequence[str], say: Say, directory: Path | None) -> tuple[int, list[str]]:
    """Run a builder, hand each line on, and end it when the person does not want to wait; returns the last lines."""
    last: deque[str] = deque(maxlen=_KEPT_LINES)
    try:
        process = subprocess.Popen(
            command, cwd=directory, env=builder_environment(builder, os.environ), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace",
        )  # fmt: skip
    except OSError as error:
        raise ImageError(f"{builder} cannot be started: {error.strerror or error}.") from error
    with process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                last.append(line.rstrip("\n"))
                say(last[-1])
            return process.wait(), list(last)
        except BaseException:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
            process.kill()
            raise
