"""A Job of one pod that is no run: a kernel that a person works on, or a look from inside. Dicts, as in `manifest`.

Like a run's, the Job owns what else is made, and ends by itself: after its lifetime, and some time after its end it is
gone. What its pod may know in secret is a Secret that it owns; the manifest names it.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..profile import Profile
from . import contract, names
from .manifest import check_profile
from .pod_template import pod_variables, profile_template


@dataclass(frozen=True)
class SinglePod:
    """What is asked for.

    Attributes:
        component: What it is, in one word: `kernel`, `doctor`.
        token: Makes the name unique; letters and digits.
        profile: What it gets; of a profile with several pods the part of one.
        owner: Who asked for it.
        command: What runs.
        lifetime: Seconds after which it is ended, its wait for a place included.
        keep: Seconds that it is left to be looked at after its end.
        grace: Seconds that it has to end in order.
        variables: In the clear.
        labels: More labels, by which it is found.
        secret_dir: Where its Secret is to be read; empty: it has none.
    """

    component: str
    token: str
    profile: Profile
    owner: str
    command: Sequence[str]
    lifetime: int
    keep: int
    grace: int
    variables: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    secret_dir: str = ""

    @property
    def name(self) -> str:
        """Of the Job and its Secret."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.profile.name.lower()).strip("-")
        room = names.LONGEST_NAME - len(self.component) - len(self.token) - 2
        return "-".join(part for part in (self.component, slug[:room].strip("-"), self.token) if part)

    @property
    def all_labels(self) -> dict[str, str]:
        """The labels of its Job, its Secret and its pod."""
        return {
            names.NAME_LABEL: names.PRODUCT,
            names.MANAGED_BY_LABEL: names.PRODUCT,
            names.COMPONENT_LABEL: self.component,
            names.INSTANCE_LABEL: self.name,
            names.OWNER_LABEL: names.label_value(self.owner),
            names.PROFILE_LABEL: names.label_value(self.profile.name),
            **self.labels,
        }

    @property
    def selector(self) -> dict[str, str]:
        """The labels that its pod has and no other."""
        return {names.MANAGED_BY_LABEL: names.PRODUCT, names.INSTANCE_LABEL: self.name}


def single_pod_job(asked: SinglePod, *, namespace: str) -> dict[str, Any]:
    """The Job. With a Secret it is made suspended, and released when the Secret is there; a queue releases by itself.

    Raises:
        ProfileError: the profile cannot become a pod.
    """
    profile = asked.profile
    check_profile(profile)
    metadata = _metadata(asked, namespace)
    if profile.queue:
        metadata["labels"][names.QUEUE_LABEL] = profile.queue
        if profile.priority_class:
            metadata["labels"][names.PRIORITY_LABEL] = profile.priority_class
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "parallelism": 1,
            "completions": 1,
            # Not again: what was in its memory is lost with it, and whoever works with it must hear of that.
            "backoffLimit": 0,
            "activeDeadlineSeconds": asked.lifetime,
            "ttlSecondsAfterFinished": asked.keep,
            "suspend": bool(asked.secret_dir) or profile.queue is not None,
            "template": profile_template(
                profile,
                command=asked.command,
                variables=pod_variables({contract.VERSION_VARIABLE: contract.VERSION, **asked.variables}),
                labels=asked.all_labels,
                annotations=_annotations(asked),
                secrets={"secret": (asked.secret_dir, asked.name)} if asked.secret_dir else {},
                grace=asked.grace,
            ),
        },
    }


def single_pod_secret(
    asked: SinglePod, content: Mapping[str, str], *, file: str, namespace: str, owner: Mapping[str, Any]
) -> dict[str, Any]:  # fmt: skip
    """The Secret of the Job: send it, and write it nowhere.

    Args:
        asked: The Job.
        content: What the pod reads as JSON.
        file: Under this name in `secret_dir`.
        namespace: Where.
        owner: The Job as the API server gave it back; it takes the Secret with it.
    """
    metadata = _metadata(asked, namespace)
    made = owner["metadata"]
    metadata["ownerReferences"] = [
        {"apiVersion": "batch/v1", "kind": "Job", "name": made["name"], "uid": made["uid"]}
    ]  # fmt: skip
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": "Opaque",
        "immutable": True,
        "data": {file: b64encode(json.dumps(dict(content)).encode()).decode("ascii")},
    }


def reworded(text: str, noun: str) -> str:
    """A sentence about a run, as `reasons` makes them, for something else that has a pod.

    Args:
        text: The sentence or its hint.
        noun: What it is about, such as "kernel".
    """
    text = text.replace("Retry the run", f"Start the {noun} again")
    return re.sub(r"\b([Tt]he) run\b", rf"\1 {noun}", text)


def _metadata(asked: SinglePod, namespace: str) -> dict[str, Any]:
    return {
        "name": asked.name, "namespace": namespace, "labels": asked.all_labels, "annotations": _annotations(asked)
    }  # fmt: skip


def _annotations(asked: SinglePod) -> dict[str, str]:
    return {
        names.OWNER_ANNOTATION: names.annotation_value(asked.owner),
        names.PROFILE_ANNOTATION: names.annotation_value(asked.profile.name),
    }
