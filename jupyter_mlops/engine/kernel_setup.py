"""What the kernel executes, unseen, before the first cell: MLflow's variables, seeds, autolog, patience with output.

The environment of a kernel is set from inside, because the kernel starts while MLflow still answers; a kernel of
another language gets the same from outside, before it starts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_USES_NUMPY = re.compile(r"\b(numpy|pandas|sklearn|scipy|xgboost|lightgbm|torch|tensorflow|keras|cupy|cuml)\b")
_USES_TORCH = re.compile(r"\b(torch|lightning|transformers)\b")


def setup_source(
    *, environment: Mapping[str, str], seed: int, autolog: bool, sources: str, directory: Path | None = None
) -> str:
    """Python source for the kernel; leaves no name behind.

    Args:
        environment: Variables to set; the values are secrets perhaps, so the source is never stored.
        seed: For `random`, and for NumPy and torch where the notebook speaks of them (importing them is not free).
        autolog: Whether to call `mlflow.autolog()`.
        sources: The notebook's code, to see what it uses.
        directory: Where to work, for a kernel that was started elsewhere; None: where it is.
    """
    lines = [
        "def _jupyter_mlops_setup():",
        "    import os, random",
        f"    os.environ.update({dict(environment)!r})",
        f"    random.seed({seed:d})",
        # A kernel drops output, and with it the word that a cell is done, when it makes more than is taken from it.
        # So it waits instead; where the kernel is another one, the engine notices that something got lost.
        "    try:",
        "        import zmq",
        "        thread = get_ipython().kernel.iopub_thread",
        "        thread.schedule(lambda: thread.socket.setsockopt(zmq.XPUB_NODROP, 1))",
        "    except Exception:",
        "        pass",
    ]
    if directory is not None:
        lines.append(f"    os.chdir({str(directory)!r})")
    if _USES_NUMPY.search(sources):
        lines += [
            "    try:",
            "        import numpy",
            f"        numpy.random.seed({seed:d})",
            "    except ImportError:",
            "        pass",
        ]
    if _USES_TORCH.search(sources):
        lines += [
            "    try:",
            "        import torch",
            f"        torch.manual_seed({seed:d})",
            "    except ImportError:",
            "        pass",
        ]
    if autolog:
        lines += ["    import mlflow", "    mlflow.autolog(silent=True)"]
    return "\n".join([*lines, "_jupyter_mlops_setup()", "del _jupyter_mlops_setup"])


def inject_client(nb: Any, parameters: Mapping[str, Any], declared: Mapping[str, Any]) -> None:
    """Give a notebook that declares a parameter `client` (and got no value for it) a ready Dask client.

    The cell that makes it is part of the executed notebook, after the parameters, tagged `injected-client`.

    Args:
        nb: The notebook with its parameters in place; changed.
        parameters: Those that were set.
        declared: Defaults by name of the declared parameters.
    """
    if "client" not in declared or declared["client"] is not None or "client" in parameters:
        return
    from nbformat import v4

    tags = [set(cell.metadata.get("tags", [])) for cell in nb.cells]
    nb.cells = [cell for cell, tag in zip(nb.cells, tags, strict=True) if "injected-client" not in tag]
    after = max(
        (index for index, cell in enumerate(nb.cells)
         if {"parameters", "injected-parameters"} & set(cell.metadata.get("tags", []))),
        default=-1,
    )  # fmt: skip
    cell = v4.new_code_cell(
        "from jupyter_mlops import get_client\n\nclient = get_client()", metadata={"tags": ["injected-client"]}
    )
    cell["id"] = "injected-client"
    nb.cells.insert(after + 1, cell)
