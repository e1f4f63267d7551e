"""The record of what was accepted: runs now; jobs, versions, slots and the audit log stand on the same tables later.

Knows SQLAlchemy and the words of `spec`; knows no runner, no MLflow and no Kubernetes.
"""
