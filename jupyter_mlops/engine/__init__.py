"""Executes one run in the process that it is in: as a papermill engine, with events, bounded outputs and one ending.

Knows papermill, the kernel, and `tracking`; knows no runner, no store and no front.
"""
