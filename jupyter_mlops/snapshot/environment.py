"""The environment of a notebook: its interpreter, and a lock file that `pip install -r` takes.

Knows no notebook and no snapshot. Reads metadata only; imports none of the packages that it lists.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict

from . import interpreter_facts
from .git import remote_without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_ASK_TIMEOUT = 60.0
"""Seconds that the kernel's interpreter has to answer; a cold network disk is slow."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9.!+_-]+")

Source = Literal["index", "vcs", "archive", "local"]
_VCS: Source = "vcs"
_ARCHIVE: Source = "archive"


class Distribution(BaseModel):
    """One installed package.

    Attributes:
        name: Normalised (PEP 503).
        version: As installed.
        source: "index"; "vcs" or "archive" for one from a URL; "local" for one that is only on this machine.
        requirement: Its line in the lock; a comment when the package cannot be installed elsewhere.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str
    source: Source = "index"
    requirement: str


class Environment(BaseModel):
    """An interpreter and what is installed in it.

    Attributes:
        python: Version, such as "3.11.9".
        implementation: Such as "CPython".
        platform: Such as "linux-x86_64"; no kernel release and no host name.
        distributions: The packages, by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    python: str
    implementation: str
    platform: str
    distributions: tuple[Distribution, ...] = ()

    @property
    def lock(self) -> str:
        """The text of a requirements file that installs the same packages."""
        head = f"# {self.implementation} {self.python} on {self.platform}\n"
        return head + "".join(f"{dist.requirement}\n" for dist in self.distributions)


def read_environment(kernel_python: str | None = None) -> tuple[Environment, list[str]]:
    """The environment of an interpreter.

    Args:
        kernel_python: The kernel's interpreter; None for this one. Another one is run, isolated, to tell.

    Returns:
        The environment, and sentences about what cannot be reproduced elsewhere. When the other interpreter
        does not answer, this one's environment with a sentence that says so.
    """
    if kernel_python is None or _same_interpreter(kernel_python, sys.executable):
        return environment_of(interpreter_facts.facts())
    try:
        done = subprocess.run(
            [kernel_python, "-I", str(Path(interpreter_facts.__file__))],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ASK_TIMEOUT,
            check=True,
        )
        environment, warnings = environment_of(json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        environment, warnings = environment_of(interpreter_facts.facts())
        reason = f"{type(error).__name__}: {error}"[:300]
        warnings.insert(
            0,
            f"The kernel's interpreter {kernel_python} did not tell its packages ({reason}); "
            "those recorded are of Jupyter's own.",
        )
    return environment, warnings


def environment_of(facts: Mapping[str, Any]) -> tuple[Environment, list[str]]:
    """The environment from what `interpreter_facts` told, and sentences about what cannot be reproduced."""
    found: dict[str, Distribution] = {}
    warnings: list[str] = []
    for fact in facts["distributions"]:
        dist, warning = _distribution(fact)
        if dist.name in found:
            continue
        found[dist.name] = dist
        if warning:
            warnings.append(warning)
    environment = Environment(
        python=str(facts["python"]),
        implementation=str(facts["implementation"]),
        platform=str(facts["platform"]),
        distributions=tuple(found[name] for name in sorted(found)),
    )
    local = [dist.name for dist in environment.distributions if dist.source == "local"]
    if local:
        warnings.append(_local_warning(local))
    return environment, warnings


def normalized_name(name: str) -> str:
    """The name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _same_interpreter(one: str, other: str) -> bool:
    # Not resolved: the interpreters of two virtual environments are links to one file.
    return Path(one).absolute() == Path(other).absolute()


def _distribution(fact: Mapping[str, Any]) -> tuple[Distribution, str | None]:
    name, version = normalized_name(_one_line(fact["name"])), _one_line(fact["version"])
    if not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
        # "-r /elsewhere" as a name would be an option of pip.
        broken = Distribution(name=name, version=version, source="local", requirement=f"# {name} {version}: unreadable")
        return broken, None
    pinned = Distribution(name=name, version=version, requirement=f"{name}=={version}")
    direct: Any = None
    if fact.get("direct_url"):
        try:
            direct = json.loads(fact["direct_url"])
        except ValueError:
            direct = None
    url = direct.get("url") if isinstance(direct, dict) else None
    # Conda leaves the place where it built a package; the package itself came from a channel.
    from_channel = fact.get("installer") == "conda"
    if not isinstance(url, str) or from_channel:
        return (_local(pinned) if fact.get("in_source_tree") and not from_channel else pinned), None
    address = remote_without_credentials(url)
    if "dir_info" in direct or address is None:
        return _local(pinned), None
    warning = None
    if address != url.partition("#")[0]:
        warning = f"The address of {name} in the lock stands without its credentials and query."
    address = quote(address, safe="%/:=&~+!$,'@()*[]")
    folder = quote(str(direct.get("subdirectory") or ""))
    fragments = [f"subdirectory={folder}"] if folder else []
    vcs = direct.get("vcs_info")
    if isinstance(vcs, dict):
        kind = quote(str(vcs.get("vcs") or "git"))
        commit = quote(str(vcs.get("commit_id") or vcs.get("requested_revision") or ""))
        at = f"@{commit}" if commit else ""
        line, source = f"{name} @ {kind}+{address}{at}", _VCS
    else:
        fragments = [*_archive_hash(direct.get("archive_info")), *fragments]
        line, source = f"{name} @ {address}", _ARCHIVE
    if fragments:
        line += "#" + "&".join(fragments)
    return Distribution(name=name, version=version, source=source, requirement=line), warning


def _archive_hash(info: Any) -> list[str]:
    if not isinstance(info, dict):
        return []
    hashes = info.get("hashes")
    if isinstance(hashes, dict) and isinstance(hashes.get("sha256"), str):
        return [f"sha256={quote(hashes['sha256'])}"]
    single = info.get("hash")
    return [quote(single, safe="=")] if isinstance(single, str) and single.startswith("sha256=") else []


def _local(dist: Distribution) -> Distribution:
    # Without its directory: the same environment elsewhere has the same lock.
    line = f"# {dist.name}=={dist.version}: from a local directory, cannot be installed elsewhere"
    return dist.model_copy(update={"source": "local", "requirement": line})


def _local_warning(names: Iterable[str]) -> str:
    listed = ", ".join(names)
    return (
        f"Installed from a local directory or in editable mode, so not in the lock: {listed}. "
        "The run can be repeated elsewhere only if they are there."
    )


def _one_line(text: Any) -> str:
    # Metadata is written by others; a newline in it would be a line of ours in the lock.
    return re.sub(r"[^\x20-\x7e]+", "", str(text)).strip()
