"""Names, labels and annotations of a run's objects. Whatever a person wrote is hostile here: what comes out is valid.

Labels are for selecting, so they are cut and replaced to fit; what they stood for is whole in the annotations.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from ..profile import LABEL_VALUE
from ..spec import RunSpec

LONGEST_NAME = 52
"""A Job's pods are called NAME-0-xxxxx, their hosts NAME-0, and a CronJob's Jobs NAME-12345678; none may pass 63."""
_LONGEST_LABEL = 63
_LONGEST_ANNOTATION = 4096
_LEAST_SLUG = 4

RUN_LABEL = "jupyter-mlops/run"
OWNER_LABEL = "jupyter-mlops/owner"
PROFILE_LABEL = "jupyter-mlops/profile"
KERNEL_LABEL = "jupyter-mlops/kernel"
CLUSTER_LABEL = "jupyter-mlops/cluster"
NAME_LABEL = "app.kubernetes.io/name"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
INSTANCE_LABEL = "app.kubernetes.io/instance"
COMPONENT_LABEL = "app.kubernetes.io/component"
PRODUCT = "jupyter-mlops"

CLUSTER = "cluster"
"""The component of a Dask cluster's objects; that of a run's is `run`."""

NOTEBOOK_ANNOTATION = "jupyter-mlops/notebook"
OWNER_ANNOTATION = "jupyter-mlops/owner"
PROFILE_ANNOTATION = "jupyter-mlops/profile"
RUN_NAME_ANNOTATION = "jupyter-mlops/run-name"
EXPERIMENT_ANNOTATION = "jupyter-mlops/experiment"
SNAPSHOT_ANNOTATION = "jupyter-mlops/snapshot"
MLFLOW_RUN_ANNOTATION = "jupyter-mlops/mlflow-run"

INDEX_KEY = "batch.kubernetes.io/job-completion-index"
JOB_LABEL = "batch.kubernetes.io/job-name"
FAILURES_ANNOTATION = "batch.kubernetes.io/job-index-failure-count"
DISRUPTIONS_ANNOTATION = "batch.kubernetes.io/job-index-ignored-failure-count"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"


def job_name(spec: RunSpec) -> str:
    """The name of the run's Job, its Service, Secret and NetworkPolicy: the same for the same run.

    The notebook's name is in it for whoever reads `kubectl get jobs`; the run's id makes it unique. It starts with a
    letter, because a Service's name must (RFC 1035).
    """
    run_id = spec.run_id
    room = LONGEST_NAME - len(run_id) - 1
    # An id with a dash could be the end of another's slug and id.
    if room < _LEAST_SLUG or "-" in run_id:
        digest = hashlib.sha256(run_id.encode()).hexdigest()[:12]
        return f"run-{run_id[:30].rstrip('-')}-{digest}"
    slug = re.sub(r"[^a-z0-9]+", "-", _ascii(PurePosixPath(spec.notebook).stem).lower()).strip("-")
    if not slug[:1].isalpha():
        slug = f"run-{slug}"
    return f"{slug[:room].rstrip('-')}-{run_id}"


def label_value(text: str) -> str:
    """A label's value for this text: itself if it can be, else what is left of it with a digest against mix-ups."""
    if LABEL_VALUE.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    left = re.sub(r"[^A-Za-z0-9_.]+", "-", _ascii(text)).strip("-_.")[: _LONGEST_LABEL - 9].rstrip("-_.")
    return f"{left}-{digest}" if left else digest


def annotation_value(text: str) -> str:
    """The text as an annotation holds it: cut, and without what no UTF-8 or no terminal should see."""
    clean = "".join(character for character in text if unicodedata.category(character) not in ("Cc", "Cs"))
    return clean if len(clean) <= _LONGEST_ANNOTATION else clean[: _LONGEST_ANNOTATION - 1] + "…"


def run_labels(spec: RunSpec) -> dict[str, str]:
    """The labels of every object of the run, its pods included."""
    return {
        NAME_LABEL: PRODUCT,
        MANAGED_BY_LABEL: PRODUCT,
        COMPONENT_LABEL: "run",
        INSTANCE_LABEL: job_name(spec),
        RUN_LABEL: label_value(spec.run_id),
        OWNER_LABEL: label_value(spec.owner),
        PROFILE_LABEL: label_value(spec.profile.name),
    }


def selector(spec: RunSpec) -> dict[str, str]:
    """The labels that the run's pods have and no others."""
    return {MANAGED_BY_LABEL: PRODUCT, RUN_LABEL: label_value(spec.run_id)}


def run_annotations(spec: RunSpec, *, mlflow_run_id: str | None = None) -> dict[str, str]:
    """What fits into no label, for whoever reads the objects and for telling whose run holds a GPU."""
    told = {
        NOTEBOOK_ANNOTATION: spec.source,
        OWNER_ANNOTATION: spec.owner,
        RUN_NAME_ANNOTATION: spec.name,
        EXPERIMENT_ANNOTATION: spec.experiment,
        SNAPSHOT_ANNOTATION: spec.snapshot_id,
        MLFLOW_RUN_ANNOTATION: mlflow_run_id or "",
    }
    return {key: annotation_value(value) for key, value in told.items() if value}


def run_of(thing: Mapping[str, Any]) -> tuple[str, str] | None:
    """The run's id and its owner as the person knows them, if the object belongs to a run of ours.

    Args:
        thing: A Job, a Pod or a Workload as the API gives it.
    """
    metadata = thing.get("metadata") or {}
    found = metadata.get("labels") or {}
    if found.get(MANAGED_BY_LABEL) != PRODUCT or RUN_LABEL not in found:
        return None
    owner = (metadata.get("annotations") or {}).get(OWNER_ANNOTATION) or found.get(OWNER_LABEL) or ""
    return str(found[RUN_LABEL]), str(owner)


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
