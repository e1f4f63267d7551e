"""Notebooks' parameters, and the places that runs are started on, over REST."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import models

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from .context import Context


def read_parameters(context: Context, *, query: models.NotebookQuery) -> models.Parameters:
    """Read the parameters of a notebook as it is saved."""
    from ..notebook.document import read_notebook

    return _parameters(read_notebook(context.notebook(query.path)))


def parameters_of_content(context: Context, *, body: models.NotebookContent) -> models.Parameters:
    """Read the parameters of a notebook as it stands in the browser, saved or not."""
    from ..notebook.document import check_notebook

    return _parameters(check_notebook(dict(body.content), context.file(body.path)))


def list_profiles(context: Context) -> list[models.ProfileOut]:
    """List the resources on offer."""
    config = context.runs.config
    shown = set(models.ProfileOut.model_fields) - {"is_default"}
    return [
        models.ProfileOut(is_default=name == config.default_profile, **profile.model_dump(include=shown))
        for name, profile in config.all_profiles().items()
    ]


def read_capacity(context: Context, *, query: models.CapacityQuery) -> dict[str, Any]:
    """Which GPUs of the Kubernetes are free, who has the others, and what fits now."""
    from ..kubernetes.survey import survey_of

    return survey_of(context.runs.config, query.profile).as_dict()


def run_doctor(context: Context, *, query: models.CapacityQuery) -> list[models.CheckOut]:
    """Look whether everything that runs need is here."""
    from ..doctor import diagnose

    checks = diagnose(lambda: context.runs.config, query.profile)
    return [models.CheckOut.model_validate(check.as_dict()) for check in checks]


def _parameters(nb: NotebookNode) -> models.Parameters:
    from ..notebook import parameters

    return models.Parameters(
        cell=parameters.parameters_cell_index(nb),
        any_name=parameters.accepts_any_name(nb),
        parameters=[
            models.ParameterOut(
                **{key: getattr(each, key) for key in models.ParameterOut.model_fields if key != "choices"},
                choices=list(each.choices),
            )
            for each in parameters.read_parameters(nb)
        ],
    )
