"""Who this is."""

from __future__ import annotations

import getpass
import os


def current_user() -> str:
    """The user of the JupyterHub, else of the system."""
    return os.environ.get("JUPYTERHUB_USER") or getpass.getuser()
