"""What only a pod can tell: a short-lived one of a profile's image is started, asked, and taken away, whatever comes.

What it found is judged in pure functions; `inside.py` is what it runs.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..errors import KubernetesError, UsageError
from ..kubernetes import contract
from .check import Check, State, settle

if TYPE_CHECKING:
    from ..config import MLOps
    from ..kubernetes.api import Api
    from ..kubernetes.single_pod import SinglePod
    from ..profile import Profile

PATIENCE = 300.0
"""Seconds for a place, the image and the answers."""
_BLOCKED = 5.0
"""Seconds after which what keeps a pod from starting is believed."""
_LOOK = 1.0
_GRACE = 5
_ASKED = ("versions in the pod", "MLflow from the pod", "GPU in the pod", "scratch", "names")


def pod_checks(
    config: MLOps, profile: Profile, *, tell: Callable[[str], None], patience: float = PATIENCE
) -> list[Check]:
    """Everything that a pod of the profile tells. It waits for a place as a run would.

    Args:
        config: The settings.
        profile: On Kubernetes.
        tell: Gets what is waited for, a sentence each time that it changes.
        patience: Seconds in all.
    """
    from ..identity import current_user
    from ..kubernetes.api import Api
    from ..kubernetes.manifest import check_tracking_uri
    from ..kubernetes.single_pod import SinglePod

    uri: str | None = config.mlflow_uri_shown()
    refused: Check | None = None
    try:
        check_tracking_uri(str(uri))
    except UsageError as error:
        uri, refused = None, Check("MLflow from the pod", State.PROBLEM, error.message, error.hint)
    asked = SinglePod(
        component="doctor", token=secrets.token_hex(4), profile=profile, owner=current_user(),
        command=contract.CHECKS_COMMAND, lifetime=int(patience) + 60, keep=60, grace=_GRACE,
        variables={"MLFLOW_TRACKING_URI": uri},
    )  # fmt: skip
    found: list[Check] = []

    def look() -> Check:
        api = Api(profile.context, profile.namespace)
        check, report = _ask(api, asked, tell, patience)
        if report is not None:
            found.extend(judge(report, profile, refused))
        return check

    first = settle("pod", look)
    missing = [Check(name, State.UNKNOWN, "Not looked at: first the pod must start.") for name in _ASKED]
    return [first, *(found or missing)]


def judge(report: Mapping[str, Any], profile: Profile, refused: Check | None = None) -> list[Check]:
    """What was found inside, as checks.

    Args:
        report: What `inside.main` printed.
        profile: What was asked for.
        refused: What is known of MLflow's address without asking.
    """
    mlflow = refused or mlflow_check(report.get("mlflow"), profile)
    return [
        versions_check(report, profile),
        mlflow,
        gpu_check(report, profile),
        scratch_check(report.get("scratch") or {}),
        names_check(report.get("names") or {}),
    ]


def versions_check(report: Mapping[str, Any], profile: Profile) -> Check:
    """Whether what is pickled here can be read there."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from ..kubernetes.versions import TOLD, compare_versions

    here = {}
    for name in TOLD:
        with suppress(PackageNotFoundError):
            here[name] = version(name)
    theirs = dict(report.get("packages") or {})
    verdict = compare_versions(
        python=platform.python_version(), packages=here, image_python=str(report.get("python")), image_packages=theirs,
        image=profile.image or "", pickled=True,
    )  # fmt: skip
    name = "versions in the pod"
    if report.get("version") != contract.VERSION:
        return Check(
            name, State.PROBLEM, f"The image's jupyter-mlops {theirs.get('jupyter-mlops', '?')} speaks another version "
            "of the pods' contract than the one here.", "Build the image anew: `jupyter mlops image build`.",
        )  # fmt: skip
    if verdict.refusal:
        return Check(
            name, State.PROBLEM, f"{verdict.refusal} Whole notebooks run; `%%mlops run` does not.", verdict.hint
        )
    told = f"Python {report.get('python')}, " + ", ".join(f"{each} {theirs.get(each, '-')}" for each in TOLD)
    return Check(name, State.OK, f"{told}. {verdict.notice}".strip())


def mlflow_check(found: Mapping[str, str] | None, profile: Profile) -> Check:
    """Whether MLflow answers the pod, and takes who it is there."""
    name = "MLflow from the pod"
    if found is None:
        return Check(name, State.UNKNOWN, "The pod was given no address of MLflow.")
    if found["message"]:
        named = ", ".join(profile.env_from_secrets) or "none"
        return Check(
            name, State.PROBLEM, f"From the pod: {found['message']}",
            f"{found['hint']} Credentials come from the profile's 'env_from_secrets' ({named}).".strip(),
        )  # fmt: skip
    return Check(name, State.OK, "MLflow answers the pod and takes it.")


def gpu_check(report: Mapping[str, Any], profile: Profile) -> Check:
    """Whether the pod sees the GPUs that it was given."""
    asked = (profile.gpus or 0) // profile.pods
    gpus: Sequence[str] | None = report.get("gpus")
    name, driver = "GPU in the pod", f", driver {report['driver']}" if report.get("driver") else ""
    if not asked and not gpus:
        return Check(name, State.OK, "The profile asks for none, and the pod sees none.")
    if gpus is None:
        return Check(
            name, State.PROBLEM, f"The pod was given {asked} GPU{'s' * (asked != 1)}, and no NVIDIA driver answers in "
            "it.", "Show this to the platform team: the node's container runtime does not put the driver into pods, or "
            "the image sets NVIDIA_VISIBLE_DEVICES or lacks NVIDIA_DRIVER_CAPABILITIES=compute,utility.",
        )  # fmt: skip
    if len(gpus) != asked:
        return Check(
            name, State.PROBLEM, f"The pod was given {asked} GPUs and sees {len(gpus)}{driver}.",
            "Show this to the platform team: pods see GPUs that are not theirs, or miss some."
        )  # fmt: skip
    return Check(name, State.OK, f"{len(gpus)} visible: {', '.join(gpus)}{driver}.")


def scratch_check(found: Mapping[str, Mapping[str, Any]]) -> Check:
    """Whether what may be written can be."""
    from ..progress.state import format_bytes

    wrong = [f"{path} ({each['error']})" for path, each in found.items() if each.get("error")]
    if wrong or not found:
        return Check(
            "scratch", State.PROBLEM, f"The pod cannot write to {', '.join(wrong) or 'anything'}.",
            "Show this to the platform team: a webhook may have changed the pod's volumes or its user.",
        )  # fmt: skip
    free = ", ".join(f"{path} {format_bytes(each['free'])}" for path, each in found.items())
    return Check("scratch", State.OK, f"Can be written, with so much free: {free}.")


def names_check(found: Mapping[str, str]) -> Check:
    """Whether names are resolved."""
    wrong = [f"{host} ({why})" for host, why in found.items() if why]
    if wrong:
        return Check(
            "names", State.PROBLEM, f"The pod cannot resolve {', '.join(wrong)}.",
            "Show this to the platform team: the cluster's DNS, or a NetworkPolicy that keeps pods from it.",
        )  # fmt: skip
    return Check("names", State.OK, f"The pod resolves {', '.join(found)}.")


def pulled(events: Iterable[Mapping[str, Any]]) -> str:
    """What the pod's events say of its image: how long the pull took, or that it was there."""
    for event in events:
        text = str(event.get("message") or event.get("note") or "")
        if event.get("reason") != "Pulled":
            continue
        took = re.search(r" in ([0-9hms.µ]+)", text)
        if took:
            return f"its image was pulled in {took[1]}"
        if "already present" in text:
            return "its image was on the node already"
    return "its image was there"


def _ask(
    api: Api, asked: SinglePod, tell: Callable[[str], None], patience: float
) -> tuple[Check, dict[str, Any] | None]:  # fmt: skip
    """Have the pod started and read its report; it is gone when this returns."""
    from ..kubernetes.single_pod import reworded, single_pod_job
    from ..kubernetes.watch import Watch

    began = time.monotonic()
    job = api.create("jobs", single_pod_job(asked, namespace=api.namespace))
    uid = str(job["metadata"]["uid"])
    watch = Watch(api, asked.name, asked.selector, uid)
    told = ""
    try:
        while True:
            look = watch.look()
            waited = time.monotonic() - began
            sentence, hint = reworded(look.reason.message, "pod"), reworded(look.reason.hint, "pod")
            if look.is_over:
                break
            if look.reason.blocked and waited > _BLOCKED:
                return Check("pod", State.PROBLEM, sentence, hint), None
            if waited > patience:
                return Check(
                    "pod", State.PROBLEM, f"The pod has not ended after {patience:.0f} s: {sentence}", hint
                ), None  # fmt: skip
            if sentence != told:
                told = sentence
                tell(sentence)
            time.sleep(_LOOK)
        for pod in look.pods:
            name = pod["metadata"]["name"]
            report = _report(api, name)
            if report is not None:
                events = api.find("events", fields=f"involvedObject.uid={pod['metadata']['uid']}")
                said = f"A pod started on {report.get('node') or 'a node'} after {waited:.0f} s; {pulled(events)}."
                return Check("pod", State.OK, said), report
        return Check("pod", State.PROBLEM, sentence, hint or "Use an image with this jupyter-mlops."), None
    finally:
        _take_away(api, asked.name, uid)


def _report(api: Api, pod: str) -> dict[str, Any] | None:
    from ..kubernetes.log_lines import parse_line
    from .inside import MARK

    with suppress(KubernetesError):
        for raw in api.log(pod, container=contract.CONTAINER):
            line = parse_line(raw)
            if line.text.startswith(MARK):
                with suppress(ValueError):
                    found = json.loads(line.text[len(MARK) :])
                    return found if isinstance(found, dict) else None
    return None


def _take_away(api: Api, name: str, uid: str) -> None:
    # What cannot be deleted now ends by itself at its deadline, and is gone a minute later.
    with suppress(KubernetesError):
        api.delete("jobs", name, uid=uid)
