"""The root of the command tree."""

from __future__ import annotations

import click

from .._version import __version__
from .group import MLOpsGroup, front

__all__ = ["front", "mlops"]


@click.group(
    cls=MLOpsGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=False,
)
@click.version_option(__version__, prog_name="jupyter-mlops")
def mlops() -> None:
    """Run notebooks with parameters, see the runs in MLflow.

    A RUN is an id, the unique beginning of one, or @last.
    """


from . import (  # noqa: E402 - the commands need the group
    audit_commands,
    cluster_commands,
    dask_commands,
    image_commands,
    inspect_commands,
    job_commands,
    kernel_commands,
    promote_commands,
    run_commands,
    scheduler_commands,
    setup_commands,
)

for _module in (run_commands, inspect_commands, image_commands, kernel_commands, cluster_commands,
                dask_commands, promote_commands, job_commands, scheduler_commands,
                audit_commands, setup_commands):  # fmt: skip
    for _command in _module.COMMANDS:
        mlops.add_command(_command)
