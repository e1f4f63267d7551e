"""Runs side by side: which parameters differ, what the metrics came to, and how they got there.

Pure functions from what is known of the runs to a table, HTML, plain data or a figure. May not know where runs and
metrics are kept. Every text in a run is anyone's: it is shown, never obeyed.
"""

from __future__ import annotations

from .comparison import ComparedRun, Comparison, compare_runs, to_dict
from .figure import plot
from .html import to_html
from .table import to_table

__all__ = ["ComparedRun", "Comparison", "compare_runs", "plot", "to_dict", "to_html", "to_table"]
