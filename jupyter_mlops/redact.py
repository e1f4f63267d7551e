"""Keeps secrets out of what a run writes: masks the values of variables whose names say that they hold one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

MASK = "***"
_SHORTEST = 6
"""Shorter values would mask ordinary words; the same limit as the masked variables of CI systems, roughly."""


class Redactor:
    """Masks known secret values in text and in JSON-like data.

    Args:
        secrets: The values; those shorter than six characters are left out, they would mask ordinary text.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # Longest first, so that a secret that contains another is masked whole.
        values = sorted({value for value in secrets if len(value) >= _SHORTEST}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, values))) if values else None
        encoded = [re.escape(value.encode("utf-8", "surrogateescape")) for value in values]
        self._bytes = re.compile(b"|".join(encoded)) if encoded else None

    @classmethod
    def from_environment(cls, name_pattern: str, environ: Mapping[str, str] | None = None) -> Redactor:
        """A redactor for the variables whose name matches, and for passwords inside URLs of any variable."""
        environ = os.environ if environ is None else environ
        matches = re.compile(name_pattern).search
        found: list[str] = []
        for name, value in environ.items():
            if matches(name) and not _is_path(value):
                found.append(value)
            if "://" in value and "@" in value:
                found += _passwords_in_url(value)
        return cls(found)

    def text(self, text: str) -> str:
        """The text with every secret replaced by `***`."""
        return self._pattern.sub(MASK, text) if self._pattern else text

    def found_in(self, data: bytes | memoryview) -> bool:
        """Whether a secret stands in the bytes, as UTF-8: for what cannot be masked, such as a pickle."""
        return self._bytes is not None and self._bytes.search(data) is not None

    def data(self, value: Any) -> Any:
        """The same for every string in lists and dicts, keys included."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.data(key): self.data(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.data(item) for item in value]
        return value


def _is_path(value: str) -> bool:
    # AWS_CREDENTIALS_FILE=/home/me/.aws/credentials names a place, not a secret.
    return value.startswith(("/", "~", "./")) and "\n" not in value


def _passwords_in_url(url: str) -> list[str]:
    try:
        password = urlsplit(url).password
    except ValueError:
        return []
    return [password, unquote(password)] if password else []
