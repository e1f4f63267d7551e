"""The door to parameters: what a notebook declares, what a person sets, and how it is put in.

`declaration` reads the cell tagged `parameters`, `binding` and `parameter_file` turn what was set into typed
values, `injection` writes them into the notebook.
"""

from __future__ import annotations

from .annotation import ParameterType
from .binding import SIZE_LIMIT, bind_parameters, parse_assignments
from .declaration import Parameter, accepts_any_name, parameters_cell_index, read_parameters
from .injection import injected_source, parameterize
from .parameter_file import load_parameter_file

__all__ = [
    "SIZE_LIMIT",
    "Parameter",
    "ParameterType",
    "accepts_any_name",
    "bind_parameters",
    "injected_source",
    "load_parameter_file",
    "parameterize",
    "parameters_cell_index",
    "parse_assignments",
    "read_parameters",
]
