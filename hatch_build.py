"""Puts the JupyterLab extension into the wheel, and builds it first where Node.js is there.

An editable install and an install without Node.js still work: the commands and magics need no browser part. What was
built before (`make labextension`, or it came with the source distribution) is taken as it is.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUILT = "jupyter_mlops/labextension"
PLACE = "share/jupyter/labextensions/jupyter-mlops"


class LabExtensionHook(BuildHookInterface[Any]):
    """Hatchling's hook; it runs before a wheel or a source distribution is put together."""

    def dependencies(self) -> list[str]:
        """What `initialize` needs beside Node.js, for the environment that the package is built in."""
        is_built = (Path(self.root) / BUILT / "package.json").exists()
        return [] if is_built or not _has_node() else ["jupyter-builder>=1.1"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build what is missing, and name it for the wheel.

        Args:
            version: "editable" for an editable install.
            build_data: What hatchling reads; see its documentation of build hooks.
        """
        root = Path(self.root)
        built = root / BUILT
        if version != "editable" and not (built / "package.json").exists():
            self._build(root)
        if self.target_name != "wheel" or version == "editable":
            return  # make labextension links it into the environment, so that a rebuild is seen at once
        if (built / "package.json").exists():
            build_data["shared_data"][str(built)] = PLACE
            build_data["shared_data"][str(root / "labextension" / "install.json")] = f"{PLACE}/install.json"
        else:
            self.app.display_warning("Node.js is not here: jupyter-mlops is built without its part for JupyterLab.")

    def _build(self, root: Path) -> None:
        jlpm = shutil.which("jlpm", path=str(Path(sys.executable).parent)) or shutil.which("jlpm")
        if jlpm is not None and _has_node():
            for command in ([jlpm, "install", "--immutable"], [jlpm, "build"]):
                subprocess.run(command, cwd=root, check=True)


def _has_node() -> bool:
    return shutil.which("node") is not None or shutil.which("nodejs") is not None
