"""What a run needs of this machine. Looks only; the store and the data directory are made if they were not there."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from .check import Check, State, settle

if TYPE_CHECKING:
    from pathlib import Path

    from ..config import MLOps
    from ..profile import Profile

LEAST_SPACE = 2**30
"""Bytes that the data directory should have left: snapshots, outputs and MLflow's files all land there."""
_MLFLOW_PATIENCE = 10.0
"""Seconds; a person waits in front of it."""
_PROGRAM_PATIENCE = 120.0
"""Seconds for a program that only says what it is: on a busy machine with a cold disk it takes long."""
_DISTRIBUTION = "jupyter-mlops"


def machine_checks(config: MLOps, profile: Profile | None) -> list[Check]:
    """Everything that is looked at on this machine.

    Args:
        config: The settings.
        profile: The profile that is asked about; None: it could not be read.
    """
    return [
        settle("packages", packages_check),
        settle("data directory", lambda: data_directory_check(config)),
        settle("store", lambda: store_check(config)),
        settle("MLflow", lambda: mlflow_check(config)),
        settle("kernel", kernel_check),
        settle("GPU", lambda: gpu_check(profile)),
    ]


def packages_check() -> Check:
    """Whether the installed packages are those that ours asks for."""
    from importlib.metadata import PackageNotFoundError, requires, version

    try:
        requirements = requires(_DISTRIBUTION) or []
        mine = version(_DISTRIBUTION)
    except PackageNotFoundError:
        return Check("packages", State.UNKNOWN, f"{_DISTRIBUTION} runs without being installed.", "pip install it.")
    found: dict[str, str] = {}
    for name in _names(requirements):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return requirements_check(
        requirements, found, about=f"{_DISTRIBUTION} {mine} on Python {platform.python_version()}"
    )


def requirements_check(requirements: Iterable[str], installed: Mapping[str, str], *, about: str) -> Check:
    """What the requirements make of the installed versions; those of extras count only where something is installed.

    Args:
        requirements: As a package's metadata has them (PEP 508).
        installed: Versions by the requirements' names.
        about: What has been looked at, for the sentence.
    """
    from packaging.requirements import Requirement

    wrong, missing = [], []
    for each in map(Requirement, requirements):
        needed = each.marker is None or each.marker.evaluate({"extra": ""})
        extra = not needed and each.marker is not None and "extra" in str(each.marker)
        version = installed.get(each.name)
        if version is None and needed:
            missing.append(str(each.name))
        elif version is not None and (needed or extra) and not each.specifier.contains(version, prereleases=True):
            wrong.append(f"{each.name} {version} (needs {each.specifier})")
    if wrong or missing:
        told = "; ".join((*wrong, *(f"{name} is missing" for name in missing)))
        return Check("packages", State.PROBLEM, f"{about}: {told}.", f"pip install --upgrade {_DISTRIBUTION}")
    return Check("packages", State.OK, f"{about}, MLflow {installed.get('mlflow', '-')}.")


def data_directory_check(config: MLOps) -> Check:
    """Whether the data directory can be written and has room."""
    import tempfile

    path = config.data_path
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"x")
    except OSError as error:
        return Check(
            "data directory", State.PROBLEM, f"{path} cannot be written: {error.strerror or error}.",
            "Set JUPYTER_MLOPS_DATA_DIR to a directory that you may write to, or free some space.",
        )  # fmt: skip
    return space_check(path, shutil.disk_usage(path).free)


def space_check(path: Path, free: int) -> Check:
    """Whether a directory that can be written has room.

    Args:
        path: The directory.
        free: Bytes.
    """
    from ..progress.state import format_bytes

    if free < LEAST_SPACE:
        return Check(
            "data directory", State.PROBLEM, f"{path} has {format_bytes(free)} left, and a run may need more.",
            "Free some space, or set JUPYTER_MLOPS_DATA_DIR to another disk.",
        )  # fmt: skip
    return Check("data directory", State.OK, f"{path} can be written and has {format_bytes(free)} left.")


def store_check(config: MLOps) -> Check:
    """Whether the store opens with the schema of this version."""
    from ..config import without_credentials
    from ..store.database import SCHEMA_HEAD, Store

    Store(config.store_uri()).close()
    return Check("store", State.OK, f"{without_credentials(config.store_uri())} opens (schema {SCHEMA_HEAD}).")


def mlflow_check(config: MLOps) -> Check:
    """Whether MLflow answers this machine; a pod may have another way, or none."""
    from ..tracking.server import check_tracking

    check_tracking(config.mlflow_uri(), min(config.mlflow_wait, _MLFLOW_PATIENCE))
    host = platform.node() or "this machine"
    return Check("MLflow", State.OK, f"{config.mlflow_uri_shown()} can be used from here ({host}).")


def kernel_check() -> Check:
    """Whether the kernel of notebooks that name no other is there and its interpreter starts."""
    from jupyter_client.kernelspec import NoSuchKernel
    from jupyter_client.manager import KernelManager

    remedy = "python -m ipykernel install --user, with the Python that your notebooks need"
    try:
        # Not the spec's own words: Jupyter puts this Python where one says only "python".
        argv = KernelManager(kernel_name="python3").format_kernel_cmd()
    except NoSuchKernel:
        return Check("kernel", State.PROBLEM, "There is no kernel 'python3', which most notebooks name.", remedy)
    program = shutil.which(argv[0])
    if program is None:
        return Check("kernel", State.PROBLEM, f"The kernel 'python3' starts {argv[0]}, which is not there.", remedy)
    asked = "import sys, ipykernel; print(sys.version.split()[0], ipykernel.__version__)"
    try:
        done = subprocess.run(
            [program, "-c", asked], capture_output=True, text=True, check=False, timeout=_PROGRAM_PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("kernel", State.PROBLEM, f"The kernel 'python3' cannot start {program}: {error}.", remedy)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        return Check("kernel", State.PROBLEM, f"The kernel 'python3' does not start with {program}: {last}", remedy)
    python, ipykernel = done.stdout.split()[:2]
    return Check("kernel", State.OK, f"'python3' is {program}, Python {python}, ipykernel {ipykernel}.")


def gpu_check(profile: Profile | None) -> Check:
    """Whether this machine's GPUs are seen, where the profile needs them here."""
    gpus = visible_gpus()
    asked = profile.gpus if profile is not None and profile.runner == "local" else None
    return gpus_check(gpus, asked or 0)


def gpus_check(gpus: tuple[str, ...] | None, asked: int) -> Check:
    """What GPUs mean for a run on this machine.

    Args:
        gpus: Their names; None: no driver answers.
        asked: How many the profile wants here.
    """
    if gpus is None:
        if asked:
            return Check(
                "GPU", State.PROBLEM, f"The profile asks for {asked} GPU{'s' * (asked != 1)} of this machine, and no "
                "NVIDIA driver answers.", "Run nvidia-smi: it says why. Or choose another profile.",
            )  # fmt: skip
        return Check("GPU", State.OK, "No NVIDIA driver answers on this machine, and the profile needs none here.")
    if len(gpus) < asked:
        return Check(
            "GPU", State.PROBLEM, f"The profile asks for {asked} GPUs, and this machine has {len(gpus)}.",
            "Ask for fewer with --gpus, or choose another profile.",
        )  # fmt: skip
    return Check("GPU", State.OK, f"{len(gpus)} visible: {', '.join(gpus) or 'none'}.")


def visible_gpus() -> tuple[str, ...] | None:
    """The names of this machine's GPUs by NVML or nvidia-smi; None: no driver answers."""
    found = _gpus_by_nvml()
    if found is not None:
        return found
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True, text=True, check=True, timeout=_PROGRAM_PATIENCE,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return tuple(line.strip() for line in done.stdout.splitlines() if line.strip())


def _gpus_by_nvml() -> tuple[str, ...] | None:
    try:
        import pynvml

        pynvml.nvmlInit()
        try:
            handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
            found = [pynvml.nvmlDeviceGetName(handle) for handle in handles]
        finally:
            pynvml.nvmlShutdown()
    except Exception:  # noqa: BLE001 - no binding or no driver: the program may know more
        return None
    return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in found)


def _names(requirements: Iterable[str]) -> list[str]:
    from packaging.requirements import Requirement

    return [Requirement(each).name for each in requirements]
