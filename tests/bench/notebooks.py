"""The notebooks of the bench, made from their cells. The first cell of each says when it was executed."""

from __future__ import annotations

from pathlib import Path

STAMP = "BENCH_STAMP"
"""The variable with the file that the first cell writes its time to."""

_FIRST = f"import os, time\nwith open(os.environ['{STAMP}'], 'w') as file:\n    file.write(repr(time.time()))"

NOTEBOOKS = {
    "nine trivial cells": [_FIRST, *(f"x{number} = {number}\nx{number}" for number in range(8))],
    "pandas and scikit-learn": [
        _FIRST,
        "import pandas as pd\nfrom sklearn.datasets import load_wine\nfrom sklearn.linear_model import LogisticRegression\n"
        "from sklearn.model_selection import cross_val_score\nfrom sklearn.pipeline import make_pipeline\n"
        "from sklearn.preprocessing import StandardScaler",
        "data = load_wine(as_frame=True)\nframe = data.frame\nframe.groupby('target').mean()",
        "model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))\n"
        "scores = cross_val_score(model, data.data, data.target, cv=5)\nscores.mean()",
    ],
}


def write_notebook(cells: list[str], path: Path) -> Path:
    """A notebook of these code cells."""
    import nbformat
    from nbformat import v4

    nb = v4.new_notebook(cells=[v4.new_code_cell(cell, id=f"cell-{number}") for number, cell in enumerate(cells)])
    nb.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nb.metadata["language_info"] = {"name": "python"}
    nbformat.write(nb, path)
    return path


def write_script(cells: list[str], path: Path) -> Path:
    """The same cells as a plain Python file."""
    path.write_text("\n".join(cells) + "\n", encoding="utf-8")
    return path
