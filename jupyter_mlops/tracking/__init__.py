"""Talks to MLflow: begins and finishes MLflow runs, follows metrics, exports the executed notebook.

Knows the spec, the events, the configuration's words, the redactor and the snapshot's model; knows no runner,
no kernel, no store and no front.
"""
