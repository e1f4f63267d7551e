"""The command tree, written once: `jupyter mlops X` and `%mlops X` are the same click commands.

A command converts what was written into a call of the core and renders the answer; it decides nothing.
"""
