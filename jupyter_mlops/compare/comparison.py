"""What is compared: runs, their parameters and metrics, and which value is the best."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import UsageError

_SHORTEST_ID = 4
_LOWER = frozenset(
    {"loss", "losses", "error", "errors", "err", "mse", "rmse", "mae", "mape", "smape", "msle", "rmsle", "perplexity",
     "ppl", "wer", "cer", "eer", "fid", "brier", "logloss", "hinge", "deviance", "entropy", "nll", "divergence",
     "latency", "seconds", "duration", "time", "regret"}
)  # fmt: skip
_HIGHER = frozenset(
    {"accuracy", "acc", "precision", "recall", "f1", "f2", "auc", "auroc", "auprc", "roc", "ap", "map", "r2", "score",
     "reward", "return", "bleu", "rouge", "meteor", "iou", "dice", "jaccard", "kappa", "mcc", "ndcg", "mrr",
     "specificity", "sensitivity", "throughput", "psnr", "ssim", "likelihood"}
)  # fmt: skip


@dataclass(frozen=True)
class ComparedRun:
    """A run as far as comparing needs it.

    Attributes:
        run_id: Ours.
        name: For people.
        state: How it stands, in a word.
        params: As text, by name.
        metrics: The latest value of each.
        history: Points of each as (step, value), in the order of their steps.
        duration: Seconds, or None while it has not ended.
    """

    run_id: str
    name: str
    state: str
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    history: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    duration: float | None = None


@dataclass(frozen=True)
class ParameterRow:
    """One parameter in all runs; None where a run has it not."""

    name: str
    values: tuple[str | None, ...]

    @property
    def differs(self) -> bool:
        """Whether two runs have different values, or one has none."""
        return len(set(self.values)) > 1


@dataclass(frozen=True)
class MetricRow:
    """One metric in all runs.

    Attributes:
        name: The metric's.
        values: The latest of each run; None where it has none.
        better: Which way its name says that it is better; None when it says nothing.
    """

    name: str
    values: tuple[float | None, ...]
    better: Literal["higher", "lower"] | None = None

    @property
    def differs(self) -> bool:
        """Whether two runs have different values, or one has none; nan is the same as nan."""
        return len({str(value) if value is None or math.isnan(value) else value for value in self.values}) > 1

    @property
    def differences(self) -> tuple[float | None, ...]:
        """Each value less that of the first run; None where there is nothing to subtract."""
        first = self.values[0] if self.values else None
        found: list[float | None] = []
        for value in self.values:
            gap = None if value is None or first is None else value - first
            found.append(gap if gap is not None and math.isfinite(gap) else None)
        return tuple(found)

    @property
    def best(self) -> frozenset[int]:
        """The places of the best values; none when all are the same, or nobody knows what is better."""
        numbers = [value for value in self.values if value is not None and not math.isnan(value)]
        if self.better is None or len(set(numbers)) < 2:
            return frozenset()
        goal = max(numbers) if self.better == "higher" else min(numbers)
        return frozenset(place for place, value in enumerate(self.values) if value == goal)


@dataclass(frozen=True)
class Comparison:
    """Runs and what they have in common.

    Attributes:
        runs: In the order in which they were asked for; differences are to the first.
        parameters: By name.
        metrics: By name.
    """

    runs: tuple[ComparedRun, ...]
    parameters: tuple[ParameterRow, ...]
    metrics: tuple[MetricRow, ...]


def compare_runs(runs: Sequence[ComparedRun]) -> Comparison:
    """Put runs side by side.

    Args:
        runs: Two or more, the one to compare with first.

    Raises:
        UsageError: there are fewer than two different runs.
    """
    unique = tuple({run.run_id: run for run in runs}.values())
    if len(unique) < 2:
        raise UsageError("A comparison takes two different runs or more.", hint="jupyter mlops runs lists them.")
    parameters = sorted({name for run in unique for name in run.params})
    metrics = sorted({name for run in unique for name in run.metrics})
    return Comparison(
        unique,
        tuple(ParameterRow(name, tuple(run.params.get(name) for run in unique)) for name in parameters),
        tuple(MetricRow(name, tuple(run.metrics.get(name) for run in unique), better(name)) for name in metrics),
    )


def better(metric: str) -> Literal["higher", "lower"] | None:
    """Which way a metric is better, as its name says; None when it says nothing or two things.

    `val_loss` is better lower, `test_f1_score` higher, and `neg_mean_squared_error` higher.
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", metric)
    words = [word.lower() for word in re.findall(r"[^\W_]+", spaced)]
    lower, higher = bool(_LOWER.intersection(words)), bool(_HIGHER.intersection(words))
    if lower and not higher:
        return "higher" if "neg" in words or "negative" in words else "lower"
    if higher and not lower:
        return "higher"
    # "log likelihood loss", "error score": the last word is what is meant.
    last = next((word for word in reversed(words) if word in _LOWER or word in _HIGHER), None)
    return None if last is None else "lower" if last in _LOWER else "higher"


def short_ids(runs: Sequence[ComparedRun]) -> list[str]:
    """The shortest beginnings of the ids that tell these runs apart, all of one length."""
    ids = [run.run_id for run in runs]
    longest = max(map(len, ids), default=0)
    length = next((n for n in range(_SHORTEST_ID, longest) if len({one[:n] for one in ids}) == len(ids)), longest)
    return [one[:length] for one in ids]


def to_dict(comparison: Comparison) -> dict[str, Any]:
    """The comparison for a program, as strict JSON has it: nan and inf are text."""
    runs = comparison.runs
    ids = [run.run_id for run in runs]
    return {
        "runs": [
            {"run_id": run.run_id, "name": run.name, "state": run.state, "duration": _number(run.duration)}
            for run in runs
        ],
        "parameters": {
            row.name: {"differs": row.differs, "values": dict(zip(ids, row.values, strict=True))}
            for row in comparison.parameters
        },
        "metrics": {
            row.name: {
                "differs": row.differs,
                "better": row.better,
                "best": [ids[place] for place in sorted(row.best)],
                "values": dict(zip(ids, map(_number, row.values), strict=True)),
                "differences": dict(zip(ids, map(_number, row.differences), strict=True)),
            }
            for row in comparison.metrics
        },
    }


def _number(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)
