"""Values that the tests of tracking share: a spec, a snapshot as tracking sees one, and code run as a kernel
runs it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

from jupyter_mlops.profile import Profile
from jupyter_mlops.spec import RunSpec


def make_spec(**fields: Any) -> RunSpec:
    """A run's spec with everything that a test does not care about filled in."""
    values: dict[str, Any] = {
        "name": "train",
        "notebook": "project/train.ipynb",
        "source": "~/project/train.ipynb",
        "snapshot_id": "5" * 64,
        "profile": Profile(name="local"),
        "experiment": "churn",
        "tracking_uri": "",
        "owner": "ada",
    }
    return RunSpec(**{**values, **fields})


def make_snapshot(*files: tuple[str, str], **git: Any) -> Any:
    """What tracking reads of a snapshot; `files` are (path, reason), `git` the fields of its git state."""
    entries = [
        SimpleNamespace(path=path, size=len(path), sha256=hashlib.sha256(path.encode()).hexdigest(), reason=reason)
        for path, reason in files
    ]
    return SimpleNamespace(
        id="5" * 64,
        notebook="project/train.ipynb",
        files=entries,
        environment=SimpleNamespace(python="3.11.7", lock="numpy==2.0.0\n"),
        git=SimpleNamespace(**git) if git else None,
        seed=0,
        model_dump=lambda mode: {"id": "5" * 64, "files": [vars(entry) for entry in entries]},
    )


def run_code(code: str, environment: dict[str, str]) -> str:
    """What the code prints, run in a process of its own with these variables, as a kernel would have them."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
