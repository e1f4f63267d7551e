"""The model that a job's runs make, in MLflow's registry: `challenger` when it is registered, `champion` by the gates.

Stands on `runs`, below the job scheduler, which calls this when a slot has succeeded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import MLOpsError
from ..runs import Runs
from . import findings
from .judge import CleanRun, Findings, Production, judge
from .model import ChampionGate, JobVersion, MetricGate

if TYPE_CHECKING:
    from ..store.models import RunRecord
    from ..tracking.registry import ModelVersion

CHAMPION = "champion"
CHALLENGER = "challenger"


def register(runs: Runs, version: JobVersion, run: RunRecord, alias: str) -> ModelVersion | None:
    """Register the model of a run that succeeded, and give it an alias; None: the job registers none.

    Raises:
        UsageError: the run logged no such model.
        MLOpsError: MLflow does not take it now.
    """
    from ..tracking.registry import register_model, set_alias

    if version.model is None:
        return None
    if run.mlflow_run_id is None:
        raise MLOpsError(
            f"The run {run.run_id} is not in MLflow, so that its model cannot be registered.",
            hint="When MLflow is there again: jupyter mlops sync",
        )
    uri, wait = runs.config.mlflow_uri_of(run.tracking_uri), runs.config.mlflow_wait
    tags = {"mlops.job": version.job, "mlops.job_version": str(version.number), "mlops.run_id": run.run_id}
    made = register_model(
        uri, run.mlflow_run_id, version.model.name, logged_as=version.model.logged_as, tags=tags, wait=wait
    )
    set_alias(uri, made, alias, wait=wait)
    return made


def crown(runs: Runs, version: JobVersion, run: RunRecord) -> bool:
    """After a slot has succeeded: register its model, as the champion if the gates on metrics let it.

    Each of the version's thresholds is judged on this run, and it must not be worse than the champion of now.

    Args:
        runs: The core of runs.
        version: The version.
        run: The slot's run.

    Returns:
        Whether it is the champion.

    Raises:
        UsageError: the run logged no such model.
        MLOpsError: MLflow does not answer now.
    """
    from ..tracking.registry import model_with_alias

    if version.model is None:
        return False
    seen = findings.clean_run(runs, run, checks=False)
    uri, wait = runs.config.mlflow_uri_of(run.tracking_uri), runs.config.mlflow_wait
    champion = model_with_alias(uri, version.model.name, CHAMPION, wait=wait)
    if champion is not None and champion.mlflow_run_id == run.mlflow_run_id:
        return True  # it was done before
    production = None
    if champion is not None and champion.mlflow_run_id is not None:
        production = Production(
            version.number, champion.mlflow_run_id, findings.metrics_of(runs, champion.mlflow_run_id)
        )
    best = passes(version, seen, production)
    register(runs, version, run, CHAMPION if best else CHALLENGER)
    return best


def passes(version: JobVersion, run: CleanRun, production: Production | None) -> bool:
    """Whether the gates on metrics let the model of a run be the champion. Pure."""
    found = Findings(author=version.author, run=run, production=production)
    gates = [gate for gate in version.gates if isinstance(gate, MetricGate | ChampionGate)]
    return all(getattr(judge(gate, found), "passed", False) for gate in gates)
