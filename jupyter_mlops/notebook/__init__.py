"""Notebooks as documents: reading and checking them, their parameters, and which one a kernel belongs to.

`document` reads, strips and writes; `parameters` is the door to what a notebook declares, what a person sets
and how it is put in; `tagging` marks the parameters cell; `current` asks the Jupyter server. Knows no run, no
snapshot, no MLflow and no store: it hands values up and asks nothing back.
"""
