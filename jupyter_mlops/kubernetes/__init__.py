"""A run on Kubernetes: one Indexed Job and, when it has several pods, one Service that the Job owns.

What is decided stands in pure functions over plain dicts, as the API gives and takes them: `manifest` and `network`
make the objects, `dask_options` the command lines inside the pods, `reasons` says why a run stands as it does,
`api_errors` what a refusal of the API server means, `capacity` what is free. None of them does input or output or
imports a client of Kubernetes; whoever talks to the API server hands in what it read. `contract` holds what the
manifests and the pod's entry point must agree on.
"""
