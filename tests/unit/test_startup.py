"""What makes our own processes start quickly, seen in processes of their own: it holds for the whole process."""

from __future__ import annotations

import subprocess
import sys


def said(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_notebooks_are_checked_as_before_without_the_slow_imports() -> None:
    code = """
from jupyter_mlops.startup import start_quickly
start_quickly()
import sys
import nbformat
from nbformat import v4
assert not any(name.partition(".")[0] in ("lark", "arrow") for name in sys.modules)
nbformat.validate(v4.new_notebook(cells=[v4.new_code_cell("1")]))
try:
    nbformat.validate(v4.new_notebook(cells=[{"cell_type": "code"}]))
except nbformat.ValidationError:
    print("refused")
"""
    assert said(code) == "refused\n"


def test_garbage_is_still_collected() -> None:
    code = """
import gc
from jupyter_mlops.startup import start_quickly
start_quickly()
class Node: pass
before = gc.get_stats()[0]["collections"]
for _ in range(300_000):
    node = Node()
    node.self = node
print(gc.isenabled(), gc.get_stats()[0]["collections"] > before, len([o for o in gc.get_objects() if type(o) is Node]) < 250_000)
"""
    assert said(code) == "True True True\n"
