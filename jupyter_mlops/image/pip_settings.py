"""Where the machine's pip looks for packages, so that the build of an image looks there too.

An index's address may hold a password, and a company's certificates are nobody else's: both reach the build as secrets
and never an argument, a layer or a label.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TAKEN = ("index-url", "extra-index-url", "trusted-host", "find-links", "no-index", "proxy", "timeout", "retries",
          "pre", "prefer-binary", "only-binary", "no-binary")  # fmt: skip
"""Settings that say what is installed from where; the others are about the machine."""

_BUNDLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
_ASK_TIMEOUT = 60.0


@dataclass(frozen=True)
class PipSettings:
    """What the build's pip is told.

    Attributes:
        config: The text of a pip.conf; empty: pip's defaults.
        certificates: A bundle of certificates to trust, or None for pip's own.
        notes: Sentences about what cannot be taken along.
    """

    config: str = ""
    certificates: Path | None = None
    notes: tuple[str, ...] = ()

    def secrets(self) -> dict[str, str | Path]:
        """What the Dockerfile's secrets hold, by their ids: a text, or the file that it is in."""
        found: dict[str, str | Path] = {}
        if self.config:
            found["pip.conf"] = self.config
        if self.certificates is not None:
            found["certificates.pem"] = self.certificates
        return found


def read_pip_settings() -> PipSettings:
    """Those of this interpreter's pip and of the environment."""
    try:
        listed = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_ASK_TIMEOUT,
            check=False,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        listed = ""
    # An environment without pip, as uv makes them, has variables at least.
    listed = listed or "\n".join(
        f":env:.{name[4:].lower().replace('_', '-')}={value!r}"
        for name, value in os.environ.items()
        if name[:4] == "PIP_"
    )
    return pip_settings(listed, os.environ)


def pip_settings(listed: str, environment: Mapping[str, str]) -> PipSettings:
    """The settings from what `pip config list` prints.

    Args:
        listed: Lines such as `global.index-url='https://pypi.example.org/simple'`.
        environment: Variables that name a bundle of certificates.
    """
    values: dict[str, str] = {}
    # pip's own order: a command's section wins over the global one, variables over both.
    for section in ("global.", "install.", ":env:."):
        for line in listed.splitlines():
            key, equals, text = line.strip().partition("=")
            if equals and key.startswith(section):
                values[key.removeprefix(section)] = _unquoted(text)
    notes = []
    lines = []
    for key in _TAKEN:
        words = values.get(key, "").split()
        if key == "find-links":
            local = [word for word in words if "://" not in word or word.startswith("file:")]
            words = [word for word in words if word not in local]
            if local:
                notes.append(f"pip's find-links {', '.join(local)} is on this machine only: the build does not see it.")
        if words:
            lines.append(f"{key} =" + "".join(f"\n    {word}" for word in words))
    if "client-cert" in values:
        notes.append("pip's client-cert is not given to the build.")
    told = [values.get("cert"), *(environment.get(name) for name in _BUNDLES)]
    bundle = next((Path(name) for name in told if name and Path(name).is_file()), None)
    return PipSettings("[global]\n" + "\n".join(lines) + "\n" if lines else "", bundle, tuple(notes))


def _unquoted(text: str) -> str:
    try:
        return str(ast.literal_eval(text))
    except (ValueError, SyntaxError):
        return text
