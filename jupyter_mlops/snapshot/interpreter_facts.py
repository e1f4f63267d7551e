"""Asks an interpreter what it is and what is installed in it: `python -I interpreter_facts.py` prints JSON.

It runs inside the kernel's interpreter, which may be another environment than ours: standard library only,
nothing of this package, and no syntax newer than Python 3.8.
"""

from __future__ import annotations

import json
import platform
import site
import sys
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import Any


def _header(text: str, name: str) -> str | None:
    # The e-mail parser that importlib.metadata uses reads the whole README; a thousand of them take seconds.
    prefix = name.lower() + ":"
    for line in text.splitlines():
        if not line.strip():
            return None
        if line.lower().startswith(prefix):
            return line[len(prefix) :].strip()
    return None


def _search_path() -> list[str]:
    here = str(Path.cwd())
    path = [entry for entry in sys.path if entry not in ("", ".", here)]
    # -I leaves the user's site-packages out, a kernel does not.
    if sys.flags.isolated and sys.prefix == sys.base_prefix:
        user_site = site.getusersitepackages()
        if Path(user_site).is_dir():
            path.insert(0, user_site)
    return path


def distributions() -> list[dict[str, Any]]:
    """Name, version, direct_url.json (PEP 610) and installer of each distribution, as an import finds it."""
    found: dict[str, dict[str, Any]] = {}
    for dist in metadata.distributions(path=_search_path()):
        try:
            text = dist.read_text("METADATA") or dist.read_text("PKG-INFO") or ""
            head = text.partition("\n\n")[0]  # the README follows, often a hundred times as long
            name, version = _header(head, "Name"), _header(head, "Version")
            if not name or not version or name in found:
                continue
            direct_url = dist.read_text("direct_url.json")
            place = Path(str(dist.locate_file("")))
            found[name] = {
                "name": name,
                "version": version,
                "direct_url": direct_url,
                "installer": (dist.read_text("INSTALLER") or "").strip() if direct_url else "",
                # `setup.py develop` and a source tree on sys.path leave no direct_url.json.
                "in_source_tree": (place / "setup.py").is_file() or (place / "pyproject.toml").is_file(),
            }
        except (OSError, UnicodeError):
            # A half-removed package must not keep the others from being listed.
            continue
    return list(found.values())


def facts() -> dict[str, Any]:
    """Everything, as JSON can hold it."""
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": sysconfig.get_platform(),
        "distributions": distributions(),
    }


if __name__ == "__main__":
    json.dump(facts(), sys.stdout)
