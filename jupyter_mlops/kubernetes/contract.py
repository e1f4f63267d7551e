"""What a run's manifests promise to the entry point inside its pods: paths, ports, variables, exit codes.

Both sides import it from here, so that neither can drift. The client and the image may be of different versions: names
here change only together with `VERSION`, which the entry point compares.

What the entry point owes in return:
- Index 0 is the head: notebook, Dask scheduler, one set of workers. The others are workers. With one pod there is no
  service, no certificate and no scheduler to reach.
- A worker waits up to `HEAD_PATIENCE` seconds for the head's name before it starts Dask, and again when Dask ended
  because its scheduler was gone: the head may be queued behind it or be starting again, and a worker pod that ends with
  0 is not replaced. It leaves with 0 only when the head says that the run is over, which it must where the server knows
  no `successPolicy`.
- The last act of the head is to write its final `RunEvent`, one line of JSON, to `TERMINATION_FILE`, at most
  `TERMINATION_LIMIT` bytes. It reaches the person even when MLflow is away and the logs are gone.
- The head leaves with `EXIT_RECORDED` when the run has its record and must not be repeated: failed, refused, timed out,
  cancelled. With 0 when it succeeded. Anything else is a death and is retried.
- On SIGTERM the head has `TERMINATION_GRACE` seconds to save what there is, and leaves with `EXIT_INTERRUPTED` unless
  the run had its record before: only so does a drained node lead to a new attempt and not to the end of the run.
- More than `RETRIES_VARIABLE` failures and disruptions together: the head records that and leaves with `EXIT_RECORDED`.
  Kubernetes counts the failures itself and lets disruptions pass for ever.
"""

from __future__ import annotations

VERSION = "1"

CONTAINER = "run"
COMMAND = ("python", "-m", "jupyter_mlops.kubernetes.pod")
CLUSTER_COMMAND = ("python", "-m", "jupyter_mlops.warm.pod")
"""What the pods of a cluster run: index 0 its head, the others the same as a run's workers."""

SCHEDULER_PORT = 8786
HTTP_PORT = 8787
"""Where the Dask scheduler of the head, and the first Dask worker of the others, answer `/health`."""

WORK_DIR = "/work"
HOME_DIR = "/home/run"
TEMPORARY_DIR = "/tmp"  # noqa: S108 - an emptyDir of the pod's own
SPILL_DIR = "/spill"
SHM_DIR = "/dev/shm"  # noqa: S108 - the same
CERTIFICATE_DIR = "/certificates"
CA_FILE = "ca.crt"
CERTIFICATE_FILE = "tls.crt"
KEY_FILE = "tls.key"

TERMINATION_FILE = "/dev/termination-log"
TERMINATION_LIMIT = 4096
"""Bytes; the kubelet cuts what is longer."""

EXIT_RECORDED = 91
"""Outside of what shells, signals, sysexits.h and Python use."""
EXIT_INTERRUPTED = 143
"""128 + SIGTERM, as a shell would tell it."""
TERMINATION_GRACE = 120
"""Seconds from the wish to stop to the kill: interrupting the cell, saving, publishing."""
HEAD_PATIENCE = 3600
"""Seconds; the bound for a GPU that is held by a worker whose head died for good while no client was looking."""

VERSION_VARIABLE = "JUPYTER_MLOPS_POD_VERSION"
RUN_ID_VARIABLE = "JUPYTER_MLOPS_POD_RUN_ID"
"""Not JUPYTER_MLOPS_RUN_ID, which says that a process is inside a notebook that is being run."""
MLFLOW_RUN_VARIABLE = "JUPYTER_MLOPS_POD_MLFLOW_RUN"
"""The MLflow run whose artifacts hold the spec and the snapshot."""
PROFILE_VARIABLE = "JUPYTER_MLOPS_POD_PROFILE"
"""The profile as JSON: a worker needs it and has no spec."""
RETRIES_VARIABLE = "JUPYTER_MLOPS_POD_RETRIES"
FAILURES_VARIABLE = "JUPYTER_MLOPS_POD_FAILURES"
"""Failures of this index before this pod; empty: none."""
DISRUPTIONS_VARIABLE = "JUPYTER_MLOPS_POD_DISRUPTIONS"
"""Disruptions of this index before this pod; empty: none."""
CLUSTER_VARIABLE = "JUPYTER_MLOPS_POD_CLUSTER"
"""The cluster's spec as JSON; set in the pods of a cluster only."""
INDEX_VARIABLE = "JOB_COMPLETION_INDEX"
"""Set by Kubernetes in every pod of an Indexed Job."""
JOB_VARIABLE = "JUPYTER_MLOPS_POD_JOB"
SERVICE_VARIABLE = "JUPYTER_MLOPS_POD_SERVICE"
"""Unset with one pod."""
CERTIFICATES_VARIABLE = "JUPYTER_MLOPS_POD_CERTIFICATES"
"""The directory with `ca.crt`, `tls.crt` and `tls.key`; unset without them."""
POD_IP_VARIABLE = "JUPYTER_MLOPS_POD_IP"
POD_NAME_VARIABLE = "JUPYTER_MLOPS_POD_NAME"
NODE_NAME_VARIABLE = "JUPYTER_MLOPS_POD_NODE"
MEMORY_VARIABLE = "JUPYTER_MLOPS_POD_MEMORY"
"""Bytes that the pod may use; without a limit, what the node has for pods."""
CPUS_VARIABLE = "JUPYTER_MLOPS_POD_MILLICPUS"
"""The same in thousandths of a core."""

KERNEL_COMMAND = ("python", "-m", "jupyter_mlops.kubernetes.pod_kernel")
KERNEL_DIR = "/kernel"
KERNEL_FILE = "kernel.json"
"""In `KERNEL_DIR`, from a Secret: `key` and `signature_scheme` of Jupyter's messages, and the supervisor's `token`."""
SUPERVISOR_PORT = 7700
KERNEL_PORTS = {"shell_port": 7701, "iopub_port": 7702, "stdin_port": 7703, "control_port": 7704, "hb_port": 7705}
"""All on the pod's 127.0.0.1: who is in the cluster's network does not reach them."""
KERNEL_GRACE = 10
"""Seconds from the wish that a kernel's pod ends to the kill."""
IDLE_VARIABLE = "JUPYTER_MLOPS_POD_IDLE"
"""Seconds without a word of a client after which a kernel's pod ends by itself."""

CHECKS_COMMAND = ("python", "-m", "jupyter_mlops.doctor.inside")
"""What `doctor --pod` has run: it prints one line of JSON and ends."""
