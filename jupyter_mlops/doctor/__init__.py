"""Whether everything that runs need is here, a line each: what is looked at, how it stands, and what to do.

Each check is a function that gives one `Check`, and is called by itself: one that fails hides no other. What decides is
pure; what looks is short. Starts no run, makes no pod unless asked to, and reads no Secret; knows no front.

    check.py    the value, and calling a check so that it cannot fail
    machine.py  this machine: packages, data directory, store, MLflow, kernel, GPU
    cluster.py  a profile on Kubernetes
    pod.py      a pod of that profile, if one is asked for; inside.py is what runs in it
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .check import Check, State, settle

if TYPE_CHECKING:
    from ..config import MLOps
    from ..profile import Profile


def diagnose(
    load: Callable[[], MLOps], name: str | None = None, *, start_pod: Callable[[str], None] | None = None
) -> list[Check]:
    """Everything that is looked at for a profile.

    Args:
        load: Gives the settings; that they cannot be read is a finding too.
        name: The profile; None: the default one.
        start_pod: Have a pod of the profile started and asked as well; gets what it waits for.
    """
    from .cluster import cluster_checks
    from .machine import kernel_check, machine_checks, packages_check

    config: MLOps | None = None
    profile: Profile | None = None

    def settings() -> Check:
        nonlocal config, profile
        config = load()
        profile = config.profile(name)
        return Check("settings", State.OK, f"The settings can be read; the profile is '{profile.name}'.")

    found = [settle("settings", settings)]
    if config is None:
        return [*found, settle("packages", packages_check), settle("kernel", kernel_check)]
    found += machine_checks(config, profile)
    if profile is not None and profile.runner == "kubernetes":
        found += cluster_checks(profile, config.mlflow_uri())
    if profile is not None and start_pod is not None:
        found += _pod_checks(config, profile, start_pod)
    return found


def _pod_checks(config: MLOps, profile: Profile, tell: Callable[[str], None]) -> list[Check]:
    from .pod import pod_checks

    if profile.runner == "kubernetes":
        return pod_checks(config, profile, tell=tell)
    others = [each.name for each in config.all_profiles().values() if each.runner == "kubernetes"]
    hint = f"Name one with --profile: {', '.join(others)}." if others else "No profile is on Kubernetes."
    return [Check("pod", State.PROBLEM, f"The profile '{profile.name}' has no pods.", hint)]
