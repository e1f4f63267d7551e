"""What a platform engineer asks of every promotion: `c.MLOps.promotion_policy`. Pure; knows no run and no store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import ConfigError, UsageError, nearest
from .gate import ApprovalGate, CleanRunGate, DataChecksGate, GateSpec, ImageGate
from .model import JobVersion
from .require import champion_gate, git_gate, in_order, metric_gate


class PromotionRule(BaseModel):
    """What is asked of jobs whose names fit a pattern. Every rule that fits is asked for.

    Attributes:
        profiles: Globs: only of jobs with a step on one of these profiles; empty: on any.
        approvals: How many people other than the author approve.
        approvers: Who may; empty: anybody but the author.
        git: `known`: the notebook is in a git work tree with a commit; `clean`: all that ships is in the commit.
        image_digest: The image of every step that has one is pinned by its digest.
        metrics: Comparisons like `accuracy>=0.8`.
        not_worse: Metrics that are not worse than production's, like `accuracy:0.01`.
        data_checks: Tag of the cells with data checks, which must be there and pass.
        allow_force: Whether `--force` lets a version live that a gate refuses; every rule that fits must say so.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    profiles: tuple[str, ...] = ()
    approvals: int = Field(default=0, ge=0, le=10)
    approvers: tuple[str, ...] = ()
    git: Literal["known", "clean"] | None = None
    image_digest: bool = False
    metrics: tuple[str, ...] = ()
    not_worse: tuple[str, ...] = ()
    data_checks: str | None = None
    allow_force: bool = False

    def gates(self) -> list[GateSpec]:
        """The gates that it asks for."""
        found: list[GateSpec] = []
        if self.git is not None:
            found.append(git_gate(self.git))
        if self.image_digest:
            found.append(ImageGate())
        if self.data_checks is not None:
            found.append(DataChecksGate(tag=self.data_checks))
        found += [metric_gate(text) for text in self.metrics]
        found += [champion_gate(text) for text in self.not_worse]
        if self.approvals or self.approvers:
            found.append(ApprovalGate(count=self.approvals or 1, by=self.approvers))
        return found


@dataclass(frozen=True)
class Demand:
    """What a policy asks of one job.

    Attributes:
        gates: The gates, in the order in which they are judged; the clean run is always among them.
        may_force: Whether `--force` is allowed.
    """

    gates: tuple[GateSpec, ...] = (CleanRunGate(),)
    may_force: bool = False


def demand(policy: Mapping[str, Any], job: str, profiles: Iterable[str]) -> Demand:
    """What the policy asks of a job.

    Args:
        policy: Rules by the pattern of a job's name, as the configuration has them.
        job: The job's name.
        profiles: The names of the profiles that its steps use.

    Raises:
        ConfigError: a rule is wrong, whether it fits the job or not.
    """
    names = tuple(profiles)
    fitting: list[PromotionRule] = []
    gates: list[GateSpec] = [CleanRunGate()]
    for pattern, fields in policy.items():
        rule, wanted = _rule(pattern, fields)
        on_profile = not rule.profiles or any(fnmatchcase(name, glob) for name in names for glob in rule.profiles)
        if fnmatchcase(job, pattern) and on_profile:
            fitting.append(rule)
            gates += wanted
    return Demand(in_order(gates), bool(fitting) and all(rule.allow_force for rule in fitting))


def demanded_of(policy: Mapping[str, Any], version: JobVersion) -> Demand:
    """What the policy asks of a version, beside the gates that the version has."""
    return demand(policy, version.job, {step.profile.name for step in version.steps})


def _rule(pattern: str, fields: Any) -> tuple[PromotionRule, list[GateSpec]]:
    if not isinstance(fields, Mapping):
        raise ConfigError(
            f"The rule {pattern!r} of c.MLOps.promotion_policy is no dict of what is asked for.",
            hint="For example: c.MLOps.promotion_policy = {'*': {'approvals': 1, 'git': 'clean'}}",
        )
    unknown = sorted(set(fields) - set(PromotionRule.model_fields), key=str)
    if unknown:
        raise ConfigError(
            f"The rule {pattern!r} of c.MLOps.promotion_policy asks for an unknown {unknown[0]!r}.",
            hint=nearest(str(unknown[0]), PromotionRule.model_fields, noun="field"),
        )
    try:
        rule = PromotionRule(**fields)
        return rule, rule.gates()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"The rule {pattern!r} of c.MLOps.promotion_policy is wrong in {where}: {first['msg']}."
        ) from None
    except UsageError as error:
        raise ConfigError(f"The rule {pattern!r} of c.MLOps.promotion_policy is wrong: {error.message}") from None
