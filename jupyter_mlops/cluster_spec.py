"""`ClusterSpec`: a Dask cluster that outlives the notebook it was started from: on what, for whom, for how long.

Immutable, and the same after a round trip through its file or a pod's variable. Knows no Dask and no Kubernetes.
"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from .profile import Label, Profile
from .spec import RunSpec, new_run_id

SPEC_FILE = "cluster.json"


class ClusterSpec(BaseModel):
    """One cluster, before it starts.

    Attributes:
        cluster_id: Ours; a later cluster of the same name has another.
        name: What the person calls it.
        profile: The resources, resolved.
        owner: Who asked for it.
        tracking_uri: MLflow's address for the runs on it, without credentials.
        idle_timeout: Seconds without a task or a run after which it ends.
        lifetime: Seconds after which it ends in any case.
        create_time: When, in UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cluster_id: str = Field(default_factory=new_run_id, pattern=r"^[a-z0-9]{1,52}$")
    name: Label
    profile: Profile
    owner: str
    tracking_uri: str
    idle_timeout: float = Field(gt=0)
    lifetime: float = Field(gt=0)
    create_time: datetime = Field(default_factory=lambda: datetime.now(timezone.utc))

    @classmethod
    def read(cls, directory: Path) -> ClusterSpec:
        """The spec of the cluster whose directory this is.

        Raises:
            OSError: there is none.
            ValueError: it is damaged, or of a newer version.
        """
        return cls.model_validate_json((directory / SPEC_FILE).read_text(encoding="utf-8"))

    def as_run(self) -> RunSpec:
        """What its objects in Kubernetes are named, labelled and sized by: those of a run, which it is like."""
        return RunSpec(
            run_id=self.cluster_id,
            name=self.name,
            notebook=self.name,
            source=f"the cluster {self.name}",
            snapshot_id="",
            profile=self.profile,
            experiment=self.name,
            tracking_uri=self.tracking_uri,
            owner=self.owner,
            create_time=self.create_time,
        )
