"""What a promotion must pass, as values; what decides whether it does is elsewhere."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..spec import JSONValue


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CleanRunGate(_Value):
    """The version ran top to bottom in a clean kernel from its snapshot, and succeeded."""

    kind: Literal["clean_run"] = "clean_run"


class MetricGate(_Value):
    """A metric of the run passes a threshold.

    Attributes:
        metric: Its name in MLflow.
        operator: How it is compared with the threshold.
        threshold: The threshold.
    """

    kind: Literal["metric"] = "metric"
    metric: str = Field(min_length=1, max_length=250)
    operator: Literal[">=", ">", "<=", "<"]
    threshold: float = Field(allow_inf_nan=False)


class ChampionGate(_Value):
    """A metric is not worse than that of the live version by more than a margin.

    Attributes:
        metric: Its name in MLflow.
        better: Whether more of it is better, or less.
        margin: By how much it may be worse, in the metric's own unit.
    """

    kind: Literal["champion"] = "champion"
    metric: str = Field(min_length=1, max_length=250)
    better: Literal["higher", "lower"] = "higher"
    margin: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class DataChecksGate(_Value):
    """The data checks passed: the cells of a tag ran and raised nothing.

    Attributes:
        tag: The cells' tag.
    """

    kind: Literal["data_checks"] = "data_checks"
    tag: str = Field(default="data-checks", min_length=1, max_length=100)


class GitGate(_Value):
    """The git state of the notebook is known.

    Attributes:
        clean: Whether changes that are in no commit are refused too.
    """

    kind: Literal["git_known"] = "git_known"
    clean: bool = True


class ImageGate(_Value):
    """The image of every step that has one is pinned by its digest."""

    kind: Literal["image_digest"] = "image_digest"


class ApprovalGate(_Value):
    """People other than the author approve.

    Attributes:
        count: How many.
        by: Who may; empty: anybody but the author.
    """

    kind: Literal["approval"] = "approval"
    count: int = Field(default=1, ge=1, le=10)
    by: tuple[str, ...] = ()


GateSpec = Annotated[
    CleanRunGate | MetricGate | ChampionGate | DataChecksGate | GitGate | ImageGate | ApprovalGate,
    Field(discriminator="kind"),
]


class GateResult(_Value):
    """How a gate was judged for one version, and on what.

    Attributes:
        gate: The gate.
        passed: Whether the version may pass.
        forced: Whether it went through all the same, where the policy allows that.
        seen: What was found, in words: "accuracy is 0.87".
        wanted: What would pass, in words: "accuracy of 0.9 or more".
        evidence: What it rests on: the MLflow run, the values, the digest of an image.
        create_time: When it was judged.
    """

    gate: GateSpec
    passed: bool
    forced: bool = False
    seen: str
    wanted: str
    evidence: dict[str, JSONValue] = Field(default_factory=dict)
    create_time: datetime = Field(default_factory=lambda: datetime.now(timezone.utc))

    def as_dict(self) -> dict[str, Any]:
        """The result as `--json` prints it."""
        return self.model_dump(mode="json")


class Approval(_Value):
    """What somebody said about one version; a later word of the same person replaces it.

    Attributes:
        who: The person.
        approved: Whether they approve.
        comment: Why.
        create_time: When.
    """

    who: str = Field(min_length=1, max_length=255)
    approved: bool
    comment: str = Field(default="", max_length=10_000)
    create_time: datetime = Field(default_factory=lambda: datetime.now(timezone.utc))

    def as_dict(self) -> dict[str, Any]:
        """The approval as `--json` prints it."""
        return self.model_dump(mode="json")
