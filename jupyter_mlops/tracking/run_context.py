"""MLflow's plugin (`mlflow.run_context_provider`) for the runs that user code starts in a run of ours.

Only MLflow imports this file, so MLflow stands at its top. Knows the environment that `kernel_environment`
sets.
"""

from __future__ import annotations

import os

from mlflow.tracking.context.abstract_context import RunContextProvider


class NotebookRunContext(RunContextProvider):  # type: ignore[misc] # MLflow has no types
    """Puts such runs under our run, with the notebook as their source instead of the kernel's launcher."""

    def in_context(self) -> bool:
        """Whether this process belongs to a run of ours."""
        return bool(os.environ.get("JUPYTER_MLOPS_MLFLOW_RUN_ID"))

    def tags(self) -> dict[str, str]:
        """The tags of a new run; those that user code gives itself win."""
        import mlflow

        found = {"mlflow.source.type": "NOTEBOOK"}
        source = os.environ.get("JUPYTER_MLOPS_SOURCE")
        if source:
            found["mlflow.source.name"] = source
        # A notebook may log elsewhere; there our run does not exist and can be nobody's parent.
        if mlflow.get_tracking_uri() == os.environ.get("MLFLOW_TRACKING_URI"):
            found["mlflow.parentRunId"] = os.environ["JUPYTER_MLOPS_MLFLOW_RUN_ID"]
        return found
