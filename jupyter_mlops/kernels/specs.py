"""Kernelspecs for kernels in pods, one for each profile on Kubernetes: written, found and taken away again.

A kernelspec names the provisioner and the profile; what the profile says is read when a kernel starts, so that a
changed profile needs no new kernelspec. Knows no Kubernetes.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, NotFoundError, ProfileError, nearest

if TYPE_CHECKING:
    from ..config import MLOps
    from ..profile import Profile

PROVISIONER = "mlops-kubernetes"
_PREFIX = "mlops-"
_FILE = "kernel.json"


@dataclass(frozen=True)
class InstalledSpec:
    """A kernelspec of ours.

    Attributes:
        name: What `papermill -k` and the launcher's tile stand for.
        display_name: What the launcher shows.
        profile: The profile that it names.
        directory: Where it is.
    """

    name: str
    display_name: str
    profile: str
    directory: Path

    def as_dict(self) -> dict[str, str]:
        """The kernelspec as JSON carries it."""
        return {
            "name": self.name, "display_name": self.display_name, "profile": self.profile,
            "directory": str(self.directory),
        }  # fmt: skip


def kernel_name(profile: str) -> str:
    """The kernelspec's name for a profile: Jupyter takes lower-case letters, digits, '.', '_' and '-' only."""
    slug = re.sub(r"[^a-z0-9._-]+", "-", profile.lower()).strip("-")
    if slug == profile:
        return f"{_PREFIX}{slug}"
    # Two profiles that differ only in what is lost here must not have one kernelspec.
    digest = hashlib.sha256(profile.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{_PREFIX}{slug}-{digest}" if slug else f"{_PREFIX}{digest}"


def kernel_spec(profile: Profile) -> dict[str, Any]:
    """What stands in the kernelspec of a profile."""
    gpus = (profile.gpus or 0) // profile.pods
    resources = f"{gpus} GPU{'s' * (gpus != 1)}, Kubernetes" if gpus else "Kubernetes"
    return {
        # Of no meaning for this provisioner, and asked for by whatever reads kernelspecs.
        "argv": ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": f"Python on {profile.name} ({resources})",
        "language": "python",
        "interrupt_mode": "message",
        "metadata": {
            "kernel_provisioner": {"provisioner_name": PROVISIONER, "config": {"profile": profile.name}},
        },
    }


def chosen_profiles(config: MLOps, names: tuple[str, ...]) -> list[Profile]:
    """The profiles of these names, or all that are on Kubernetes.

    Raises:
        ProfileError: there is none, or one is not on Kubernetes.
    """
    if names:
        found = [config.profile(name) for name in names]
    else:
        found = [each for each in config.all_profiles().values() if each.runner == "kubernetes"]
    if not found:
        raise ProfileError(
            "No profile is on Kubernetes.", hint="Set one up with 'runner': 'kubernetes' in c.MLOps.profiles."
        )
    for each in found:
        if each.runner != "kubernetes":
            raise ProfileError(
                f"The profile '{each.name}' is not on Kubernetes.", hint="Kernels of this machine need no profile."
            )
    return found


def install(profile: Profile, *, sys_prefix: bool) -> InstalledSpec:
    """Write the kernelspec of a profile, over the one that there was.

    Args:
        profile: On Kubernetes.
        sys_prefix: Into this Python's environment and not the user's data directory.

    Raises:
        ConfigError: it cannot be written, or another kernelspec has the name.
    """
    from jupyter_core.paths import jupyter_data_dir

    base = Path(sys.prefix, "share", "jupyter") if sys_prefix else Path(jupyter_data_dir())
    directory = base / "kernels" / kernel_name(profile.name)
    if (directory / _FILE).exists() and _read(directory) is None:
        raise ConfigError(
            f"There is a kernelspec {directory} that is not ours.", hint="Remove it, or give the profile another name."
        )
    content = json.dumps(kernel_spec(profile), indent=1)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        temporary = directory / f".{_FILE}"
        temporary.write_text(content + "\n", encoding="utf-8")
        temporary.replace(directory / _FILE)
    except OSError as error:
        raise ConfigError(
            f"The kernelspec cannot be written to {directory}: {error.strerror or error}.",
            hint="Without --sys-prefix it goes to your own data directory.",
        ) from error
    found = _read(directory)
    assert found is not None
    return found


def installed() -> list[InstalledSpec]:
    """The kernelspecs of ours that Jupyter finds, by name."""
    from jupyter_client.kernelspec import KernelSpecManager

    found = (_read(Path(directory)) for directory in KernelSpecManager().find_kernel_specs().values())
    return sorted((each for each in found if each is not None), key=lambda each: each.name)


def remove(names: tuple[str, ...]) -> list[InstalledSpec]:
    """Take kernelspecs of ours away; all of them where none are named.

    Args:
        names: Of kernelspecs or of their profiles.

    Raises:
        NotFoundError: one is not there.
        ConfigError: one cannot be removed.
    """
    known = installed()
    chosen = []
    for name in names:
        one = next((each for each in known if name in (each.name, each.profile)), None)
        if one is None:
            raise NotFoundError(
                f"There is no kernelspec '{name}' of ours.",
                hint=nearest(name, [each.name for each in known], noun="kernelspec")
                if known
                else "`jupyter mlops kernels install` writes them.",
            )
        chosen.append(one)
    for each in chosen or known:
        try:
            shutil.rmtree(each.directory)
        except OSError as error:
            raise ConfigError(f"{each.directory} cannot be removed: {error.strerror or error}.") from error
    return chosen or known


def _read(directory: Path) -> InstalledSpec | None:
    """The kernelspec in a directory, or None: it is not ours."""
    try:
        spec = json.loads((directory / _FILE).read_text(encoding="utf-8"))
        provisioner = spec["metadata"]["kernel_provisioner"]
        if provisioner["provisioner_name"] != PROVISIONER:
            return None
        profile = str(provisioner["config"]["profile"])
        return InstalledSpec(directory.name, str(spec["display_name"]), profile, directory)
    except (OSError, ValueError, KeyError, TypeError):
        return None
