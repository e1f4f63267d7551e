"""What a notebook's code says to MLflow by itself: its experiment, and calls that would lose its run.

Reads code and runs none. Only what stands there literally is known.
"""

from __future__ import annotations

import ast
import re
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAGIC = re.compile(r"[%!?]")
_CELL_MAGIC = re.compile(r"\s*%%(?!time\b|timeit\b|capture\b)")
_VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT")
_MENTIONED = ("set_experiment", "set_tracking_uri", *_VARIABLES)


def experiment_in_source(nb: Any) -> str | None:
    """The experiment that the notebook sets with `mlflow.set_experiment`; the first literal one, or None.

    Args:
        nb: The notebook's document.
    """
    for _, call in _calls(nb, "set_experiment"):
        name = _argument(call, "experiment_name")
        if isinstance(name, ast.Constant) and isinstance(name.value, str) and name.value.strip():
            return name.value
    return None


def tracking_hazards(nb: Any) -> list[str]:
    """Sentences about calls that take what the notebook logs away from its run.

    Args:
        nb: The notebook's document.
    """
    found: list[str] = []
    for index, call in _calls(nb, "set_tracking_uri"):
        found.append(
            f"Cell {index + 1} calls mlflow.set_tracking_uri ({_shown(call)}): what it logs may not arrive "
            "in this run. Remove the call; the address comes from the configuration."
        )
    names = set()
    for index, call in _calls(nb, "set_experiment"):
        name = _argument(call, "experiment_name")
        if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
            found.append(
                f"Cell {index + 1} sets an MLflow experiment whose name is known only when it runs "
                f"({_shown(call)}): MLflow refuses to continue this run in another experiment. "
                "Name it with --experiment instead."
            )
            continue
        names.add(name.value)
        if len(names) > 1:
            found.append(
                f"Cell {index + 1} sets another MLflow experiment ({_shown(call)}): MLflow refuses to "
                "continue this run in it. Set one experiment a notebook."
            )
    for index, variable in _assigned_variables(nb):
        found.append(
            f"Cell {index + 1} sets {variable}: what the notebook logs may not arrive in this run. "
            "Remove the assignment."
        )
    return found


def _trees(nb: Any) -> Iterator[tuple[int, ast.AST]]:
    for index, cell in enumerate(nb.get("cells", [])):
        source = cell.get("source", "")
        source = "".join(source) if isinstance(source, list) else str(source)
        if cell.get("cell_type") != "code" or not any(word in source for word in _MENTIONED):
            continue
        if _CELL_MAGIC.match(source):
            continue
        lines = ["pass" if _MAGIC.match(line) else line for line in source.splitlines()]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the notebook's code, which is not ours to judge here
                yield index, ast.parse("\n".join(lines))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue


def _calls(nb: Any, name: str) -> Iterator[tuple[int, ast.Call]]:
    for index, tree in _trees(nb):
        bare = _imported_names(tree, name)
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        for node in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
            target = node.func
            if (isinstance(target, ast.Attribute) and target.attr == name) or (
                isinstance(target, ast.Name) and target.id in bare
            ):
                yield index, node


def _imported_names(tree: ast.AST, name: str) -> set[str]:
    found = {name}  # imported in another cell, as often as not
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mlflow"):
            found |= {alias.asname for alias in node.names if alias.name == name and alias.asname}
    return found


def _argument(call: ast.Call, keyword: str) -> ast.expr | None:
    if call.args:
        return call.args[0]
    return next((entry.value for entry in call.keywords if entry.arg == keyword), None)


def _assigned_variables(nb: Any) -> Iterator[tuple[int, str]]:
    for index, tree in _trees(nb):
        for node in ast.walk(tree):
            if not isinstance(node, ast.Assign):
                continue
            for target in node.targets:
                if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
                    name = target.slice.value
                    if isinstance(name, str) and name.startswith(_VARIABLES):
                        yield index, name


def _shown(node: ast.AST) -> str:
    from .address import scrub

    text = " ".join(scrub(ast.unparse(node)).split())
    return text if len(text) <= 80 else text[:79] + "…"
