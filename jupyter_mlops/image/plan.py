"""The build context of an image and its arguments: data from data. `write_context` alone touches the disk.

What a person gives (names, arguments) is checked here, where it enters; the inside does not check again.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import without_credentials
from ..errors import UsageError, nearest
from ..profile import Image
from .versions import PRODUCT, PYTHON

if TYPE_CHECKING:
    from .lock import Contents
    from .projects import Wheel

DOCKERFILE = Path(__file__).parent / "Dockerfile"

SETTABLE = ("APT_PACKAGES", "APT_BUILD_PACKAGES", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST",
            "PIP_CERT", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")  # fmt: skip
"""Build arguments that a person may give; every builder knows the last six by itself."""

_APT_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*(?::[a-z0-9]+)?(?:=[A-Za-z0-9.+:~-]+)?")
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+(?=@)")


@dataclass(frozen=True)
class Base:
    """The image to build on.

    Attributes:
        name: As it was named, with a tag or a digest.
        digest: What the registry has under this name, such as "sha256:…"; empty when it was not asked.
    """

    name: str
    digest: str = ""

    @property
    def reference(self) -> str:
        """What the build begins with: by digest where it is known, so that it is what the label says."""
        return f"{repository(self.name)}@{self.digest}" if self.digest else self.name


def image_name(text: str, *, tagged: bool = True) -> str:
    """The name of an image, checked.

    Args:
        text: As it was written.
        tagged: Whether it must have a tag, and no digest: the name of what is to be made.

    Raises:
        UsageError: it is no name of an image.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        name: str = TypeAdapter(Image).validate_python(text)
    except ValidationError as error:
        why = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UsageError(f"{why[:1].upper()}{why[1:]}.", code="image") from None
    if tagged and ("@" in name or ":" not in name.rpartition("/")[2]):
        raise UsageError(
            f"The image {name!r} has no tag.",
            hint=f"Write one behind it: {repository(name)}:1",
            code="image",
        )
    return name


def pushable(name: str) -> str:
    """The name, checked to say which registry: without one, builders send to a public one.

    Raises:
        UsageError: it does not.
    """
    host, slash, _ = name.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        raise UsageError(
            f"The image {name!r} names no registry.",
            hint=f"Build it under a name such as registry.example.org/team/{name.rpartition('/')[2]}. "
            "Docker Hub's is docker.io.",
            code="image",
        )
    return name


def repository(name: str) -> str:
    """The name without tag and digest."""
    bare = name.partition("@")[0]
    head, slash, last = bare.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def given_arguments(items: Iterable[str]) -> dict[str, str]:
    """The values of --build-arg.

    Raises:
        UsageError: one is no NAME=VALUE, is not known, or holds a password, which would stay readable.
    """
    found = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise UsageError(f"--build-arg {item!r} is no NAME=VALUE.", code="image")
        if name == "BASE":
            raise UsageError("The base image is given with --base.", code="image")
        if name not in SETTABLE:
            raise UsageError(
                f"There is no build argument {name!r}.",
                hint=nearest(name, SETTABLE[:-3], noun="argument"),
                code="image",
            )
        if any(without_credentials(word) != word for word in value.split() if "@" in word):
            raise UsageError(
                f"The build argument {name} holds credentials, which would stay readable in the image.",
                hint="Put the address into pip's configuration (pip config set global.index-url ADDRESS): the build "
                "gets it as a secret.",
                code="image",
            )
        if name.startswith("APT_"):
            _check_packages(name, value)
        if "\0" in value or "\n" in value:
            raise UsageError(f"The build argument {name} has more than one line.", code="image")
        found[name] = value
    return found


def build_arguments(contents: Contents, base: Base, given: Mapping[str, str]) -> dict[str, str]:
    """The arguments of the Dockerfile.

    Args:
        contents: What goes in; its versions become labels.
        base: The image to build on.
        given: Those of the person, from `given_arguments`; Debian packages are added to ours.
    """
    versions = contents.versions
    found = {
        "BASE": base.reference,
        "VARIANT": "gpu" if contents.gpu else "cpu",
        "PYTHON_VERSION": versions[PYTHON],
        "PIP_OPTIONS": "--no-deps" if contents.whole else "",
        "JUPYTER_MLOPS_VERSION": versions[PRODUCT],
        **{f"{name.upper()}_VERSION": versions[name] for name in ("dask", "distributed", "cloudpickle", "mlflow")},
        "BASE_NAME": base.name,
        "BASE_DIGEST": base.digest,
        "LOCK_DIGEST": f"sha256:{contents.digest}",
        **given,
    }
    for name, ours in (("APT_PACKAGES", contents.libraries), ("APT_BUILD_PACKAGES", contents.build_packages)):
        words = dict.fromkeys([*ours, *given.get(name, "").split()])
        if words:
            found[name] = " ".join(words)
    return found


def context_files(contents: Contents, wheels: Sequence[Wheel]) -> dict[str, bytes | Path]:
    """The files of the build context, by their path in it: their content, or the file to copy."""

    def lines(items: Iterable[str]) -> bytes:
        return "".join(f"{item}\n" for item in items).encode()

    return {
        "Dockerfile": DOCKERFILE,
        "requirements.txt": lines(contents.pinned),
        "additions.txt": lines(contents.additions),
        "wheels/wheels.txt": lines(f"./{wheel.path.name}" for wheel in wheels),
        **{f"wheels/{wheel.path.name}": wheel.path for wheel in wheels},
    }


def write_context(files: Mapping[str, bytes | Path], directory: Path) -> None:
    """Write the build context.

    Args:
        files: What `context_files` made.
        directory: Made if it is not there; files of these names are replaced.
    """
    for name, content in files.items():
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, target)
        else:
            target.write_bytes(content)


def shown_command(command: Sequence[str]) -> str:
    """A command line for people: quoted for a shell, passwords in addresses masked."""
    import shlex

    return _USER_INFO.sub("***", shlex.join(command))


def _check_packages(name: str, value: str) -> None:
    for word in value.split():
        if _APT_NAME.fullmatch(word) is None:
            raise UsageError(
                f"The build argument {name} has {word!r}, which is no name of a Debian package.", code="image"
            )
