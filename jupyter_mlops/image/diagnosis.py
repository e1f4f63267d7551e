"""What the output of a builder says about why it failed: one sentence and the next step. A pure function over text.

Matches the words of pip, apt, buildah, docker and podman; what it does not know passes through as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ImageError

_SHOWN_LINES = 8
_OURS = r"(?m:^)(?:#\d+ +[\d.]+ )?jupyter-mlops: "
"""Begins a line that the Dockerfile prints; docker puts the step and the time before it. Not in the middle of one:
builders print the commands too."""

_NETWORK = "Look at the address and the proxy (HTTPS_PROXY)."


@dataclass(frozen=True)
class _Rule:
    """What one kind of failure looks like.

    Attributes:
        pattern: Regular expression, searched in the whole output; dots match no line breaks.
        message: The sentence, with the pattern's groups in braces.
        hint: The next step, the same way; `{login}` is the command that logs in.
    """

    pattern: str
    message: str
    hint: str


# The first that fits tells; what causes others stands before them.
_RULES: Sequence[_Rule] = (
    _Rule(
        r"no space left on device",
        "The disk is full where the builder keeps its images.",
        "Free some space there, for example with `buildah rmi --prune` or `docker system prune`.",
    ),
    _Rule(
        rf"{_OURS}the base (?P<text>image has Python .+)",
        "The base {text}.",
        "Name a base with the environment's Python: --base IMAGE",
    ),
    _Rule(
        rf"{_OURS}the base image has no apt-get, and these are missing: (?P<packages>.+)",
        "The base image is not made from Debian or Ubuntu, and has no {packages}.",
        "Name one that is, or one that has Python with its module venv: --base IMAGE",
    ),
    _Rule(
        rf"{_OURS}not the versions that the arguments tell: (?P<text>.+)",
        "The image does not have the versions that its labels would tell: {text}.",
        "Build it from the environment as it is now.",
    ),
    # Before what pip makes of it: that there is no such package.
    _Rule(
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|x509: certificate signed by unknown authority",
        "The build does not trust the certificate that the index or the registry shows.",
        "Tell pip your company's bundle (pip config set global.cert FILE): the build gets it as a secret. The builder "
        "itself trusts what the system does.",
    ),
    _Rule(
        r"(?:HTTP error|Client Error:?|status code) (?P<code>401|403|407)\b",
        "The index refused the build (HTTP {code}).",
        "Put its address with the credentials into pip's configuration (pip config set global.index-url ADDRESS): the "
        "build gets it as a secret.",
    ),
    _Rule(
        r"The conflict is caused by:\n(?P<why>(?:    \S.*\n?)+)",
        "The packages contradict each other:\n{why}",
        "Install them together in the environment first, for GPUs with pip install 'jupyter-mlops[gpu]', so that the "
        "lock has versions that fit.",
    ),
    _Rule(
        r"[ ;](?P<version>\S+) Requires-Python (?P<bound>[^\s;]+)(?:.*\n)+?.*"
        r"No matching distribution found for (?P<name>[\w.-]+)==(?P=version)\s",
        "The package {name}=={version} needs Python {bound}, which the base image's is not.",
        "Name a base with a newer Python of the same minor version (--base IMAGE), or leave the package out: "
        "--without {name}",
    ),
    _Rule(
        r"No matching distribution found for (?P<name>[\w.-]+)(?P<version>==\S+\+\S+)",
        "The package {name}{version} cannot be installed: no index that the build knows has it.",
        "Such a version comes from an index of its own. Add it to pip's configuration (pip config set "
        "global.extra-index-url ADDRESS), or leave the package out: --without {name}",
    ),
    _Rule(
        r"No matching distribution found for (?P<name>[\w.-]+)(?P<version>[^\s;(]*)",
        "The package {name}{version} cannot be installed: no index that the build knows has it for this image.",
        "Install a version that the index has, or leave the package out: --without {name}",
    ),
    _Rule(
        r"Failed building wheel for (?P<name>[\w.-]+)",
        "The package {name} has no wheel for this image and could not be built from its source.",
        "Give the build a compiler (--build-arg 'APT_BUILD_PACKAGES=build-essential python3-dev'), or leave the "
        "package out: --without {name}",
    ),
    _Rule(
        r"Cannot find command 'git'",
        "A package comes from git, which the build has not.",
        "Give it: --build-arg 'APT_BUILD_PACKAGES=git ca-certificates'",
    ),
    _Rule(
        r"E: Unable to locate package (?P<name>\S+)",
        "The base image's distribution has no package {name}.",
        "Give the name that it has there in --build-arg, or name another base: --base IMAGE",
    ),
    _Rule(
        r"Cannot connect to (?:the )?(?P<name>Docker daemon|Podman)",
        "{name} does not answer.",
        "Start it, or use another builder: --builder buildah",
    ),
    _Rule(
        r"image not known|An image does not exist locally with the tag|no such image",
        "The builder has no such image.",
        "Build it with the same builder first, or name the one that has it: --builder NAME",
    ),
    _Rule(
        r"manifest unknown|manifest for .+ not found|name unknown|repository does not exist",
        "The registry has no such image.",
        "Look at its name and its tag.",
    ),
    _Rule(
        r"unauthorized|authentication required|access to the (?:requested )?resource is (?:denied|not authorized)|"
        r"denied: |no basic auth credentials",
        "The registry refused: nobody is logged in, or who is has no right to this.",
        "{login}",
    ),
    _Rule(
        r"server gave HTTP response to HTTPS client",
        "The registry speaks no TLS.",
        "Give it a certificate, or tell the builder that it is insecure (registries.conf, or daemon.json of docker).",
    ),
    _Rule(
        r"lookup (?P<host>\S+)(?: on \S+)?: no such host",
        "The host {host} is not known on this network.",
        _NETWORK,
    ),
    _Rule(
        r"Temporary failure (?:in name resolution|resolving)|Name or service not known|Could not resolve",
        "The registry, the index or a mirror is not known on this network.",
        _NETWORK,
    ),
    _Rule(
        r"connection refused|i/o timeout|network is unreachable|Connection timed out|TLS handshake timeout",
        "The registry, the index or a mirror does not answer.",
        _NETWORK,
    ),
)


def explain(output: Sequence[str], *, doing: str, login: str = "") -> ImageError:
    """The error for a person.

    Args:
        output: The last lines that the builder printed.
        doing: What the image could not be: "built", "pushed".
        login: The command that logs in to the registry.
    """
    text = "".join(f"{_plain(line)}\n" for line in output)
    for rule in _RULES:
        found = re.search(rule.pattern, text, re.IGNORECASE)
        if found is None:
            continue
        words = {name: (value or "").strip() for name, value in found.groupdict().items()}
        words.setdefault("login", f"Log in: {login}" if login else "Log in.")
        return ImageError(rule.message.format(**words), hint=rule.hint.format(**words))
    last = "\n".join([line for line in text.splitlines() if line.strip()][-_SHOWN_LINES:])
    return ImageError(
        f"The image could not be {doing}: the builder failed.\n{last}".rstrip(), hint="All it said is above."
    )


def _plain(line: str) -> str:
    # Colours and whatever else a program sends to a terminal.
    return "".join(char for char in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) if char.isprintable())
