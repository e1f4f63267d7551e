"""What a run says about itself in MLflow: params, tags, dataset inputs; pure functions.

MLflow's limits are met here: names of certain characters, values of a certain length. What is cut or renamed
stands in full in the artifact `parameters.json`.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..spec import JSONValue, RunSpec, RunState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ..redact import Redactor
    from ..snapshot import Snapshot

RUN_ID_TAG = "jupyter_mlops.run_id"
CANCELLED_BY_TAG = "jupyter_mlops.cancelled_by"
"""Set before a run is stopped from far away, so that it can tell a wish from a disruption."""
FAILURE_TAGS = ("jupyter_mlops.failure_code", "jupyter_mlops.failure_message")

PARAM_LENGTH = 6000
TAG_LENGTH = 5000
NAME_LENGTH = 250
DATASETS = 100
"""More inputs than a person looks at would only make the run's page slow; the snapshot's manifest has them
all."""

_BATCH_ITEMS = 100
_BATCH_BYTES = 500_000
_UNSUITABLE = re.compile(r"[^\w.\- /]")
_CODE = (".py", ".ipynb")

STATUS = {
    RunState.PENDING: "SCHEDULED",
    RunState.RUNNING: "RUNNING",
    RunState.SUCCEEDED: "FINISHED",
    RunState.FAILED: "FAILED",
    RunState.CANCELLED: "KILLED",
}
"""Our words for how a run stands, in MLflow's."""


@dataclass(frozen=True)
class DatasetFacts:
    """A data file as MLflow's page shows an input of a run."""

    name: str
    digest: str
    source: str


def suitable_name(name: str) -> str:
    """A name that MLflow takes: the same where it can be, else a telling and unique one."""
    clean = _UNSUITABLE.sub("_", _storable(name)).strip("/ ")
    normal = posixpath.normpath(clean) if clean else "_"
    if normal in (".", "") or normal.startswith(("..", "/")):
        normal = "_"
    if normal == name and len(name) <= NAME_LENGTH:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{normal[: NAME_LENGTH - 9]}-{digest}"


def param_text(value: JSONValue) -> str:
    """A parameter's value as MLflow stores it.

    The text is `str(value)` cut without a mark, exactly as MLflow itself makes it: a notebook that logs the
    same parameter with the same value must not run into "changing param values is not allowed".
    """
    return _storable(str(value))[:PARAM_LENGTH]


def params(
    parameters: Mapping[str, JSONValue], defaults: Mapping[str, JSONValue] | None, redactor: Redactor
) -> tuple[dict[str, str], dict[str, JSONValue], list[str]]:
    """The effective parameters: those that were set, over the notebook's defaults.

    Returns:
        MLflow's params by name; the same in full and typed, for `parameters.json`; the names whose values
        were cut.
    """
    effective = {**(defaults or {}), **parameters}
    full = redactor.data(effective)
    texts = {suitable_name(name): param_text(value) for name, value in full.items()}
    cut = [name for name, value in full.items() if len(str(value)) > PARAM_LENGTH]
    return texts, dict(full), cut


def run_tags(spec: RunSpec, snapshot: Snapshot, redactor: Redactor, *, cut: Iterable[str] = ()) -> dict[str, str]:
    """The tags of a run when it begins; the spec's own cannot replace those that we find a run by."""
    from ..config import without_credentials

    own: dict[str, str | None] = {
        RUN_ID_TAG: spec.run_id,
        "jupyter_mlops.snapshot": spec.snapshot_id,
        "jupyter_mlops.profile": spec.profile.name,
        "jupyter_mlops.runner": spec.profile.runner,
        "jupyter_mlops.seed": str(spec.seed),
        "jupyter_mlops.retry_of": spec.retry_of,
        "jupyter_mlops.run_key": spec.run_key,
        "jupyter_mlops.cut_params": ", ".join(cut) or None,
    }
    general: dict[str, str | None] = {
        "mlflow.runName": spec.name,
        "mlflow.user": spec.owner,
        "mlflow.source.name": spec.source,
        "mlflow.source.type": "NOTEBOOK",
        "mlflow.note.content": _note(spec),
    }
    git = getattr(snapshot, "git", None)
    if git is not None:
        remote = getattr(git, "remote", None)
        general["mlflow.source.git.commit"] = getattr(git, "commit", None)
        general["mlflow.source.git.branch"] = getattr(git, "branch", None)
        general["mlflow.source.git.repoURL"] = _without_credentials(remote, without_credentials) if remote else None
        own["jupyter_mlops.git_dirty"] = "true" if getattr(git, "dirty", False) else None
    merged = {**general, **spec.tags, **own}
    return {
        suitable_name(redactor.text(name)): tag_text(value, redactor)
        for name, value in merged.items()
        if value is not None and name
    }


def tag_text(value: str, redactor: Redactor) -> str:
    """A tag's value as MLflow takes it; cut with a mark."""
    text = _storable(redactor.text(str(value)))
    return text if len(text) <= TAG_LENGTH else text[: TAG_LENGTH - 1] + "…"


def datasets(snapshot: Snapshot, redactor: Redactor) -> list[DatasetFacts]:
    """The data files of the snapshot; code and the environment are no inputs in this sense."""
    found = []
    for file in getattr(snapshot, "files", ()):
        path = str(file.path)
        if str(file.reason) not in ("literal", "include") or path.lower().endswith(_CODE):
            continue
        shown = _storable(redactor.text(path))
        source = json.dumps({"uri": shown, "snapshot": str(snapshot.id), "bytes": int(file.size)})
        found.append(DatasetFacts(name=shown[:500], digest=str(file.sha256)[:32], source=source))
    return found[:DATASETS]


def batches(items: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The items in portions that MLflow takes in one request."""
    batch: dict[str, str] = {}
    size = 0
    for name, value in items.items():
        length = len(json.dumps(name)) + len(json.dumps(value)) + 30
        if batch and (len(batch) == _BATCH_ITEMS or size + length > _BATCH_BYTES):
            yield batch
            batch, size = {}, 0
        batch[name] = value
        size += length
    if batch:
        yield batch


def _note(spec: RunSpec) -> str:
    # MLflow's page renders it as Markdown: what people name must not become markup.
    def quoted(text: str) -> str:
        return "`" + " ".join(text.replace("`", "'").split())[:200] + "`"

    lines = [f"Notebook {quoted(spec.source)}, run {quoted(spec.run_id)} on profile {quoted(spec.profile.name)}."]
    if spec.retry_of:
        lines.append(f"Repeats run {quoted(spec.retry_of)}.")
    return "\n\n".join(lines)


def _without_credentials(remote: str, strip: Any) -> str:
    try:
        return str(strip(remote))
    except ValueError:
        return remote.rpartition("@")[2]


def _storable(text: str) -> str:
    """The text without what no database takes: lone surrogates and NUL."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd")
