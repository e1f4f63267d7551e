"""One cell of a session as a run: its names go with it, what it assigns comes back.

`names` reads the source, `cell` makes the notebook, `pickling` carries the values, `results` has both ends of the way
back. May not know how a run is started, followed or shown.
"""

from __future__ import annotations

from .cell import CELL_ID, CELL_TAG, Offload, offload_cell, offload_script
from .results import RESULTS_FILE, Results, cell_outputs, load_names, load_results, save_results

__all__ = [
    "CELL_ID",
    "CELL_TAG",
    "RESULTS_FILE",
    "Offload",
    "Results",
    "cell_outputs",
    "load_names",
    "load_results",
    "offload_cell",
    "offload_script",
    "save_results",
]
