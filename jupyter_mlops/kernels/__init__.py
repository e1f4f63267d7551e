"""Kernels in pods: one pod for each, which the stock Jupyter client starts, interrupts, restarts and ends.

    provisioner.py  what jupyter_client calls; asynchronous, decides nothing
    pod.py          one kernel's pod: made, waited for, its end understood; deleted
    link.py         the line to the pod's supervisor, and whether the pod is lost
    specs.py        kernelspecs, one for each profile on Kubernetes

The pod's side is `kubernetes.pod_kernel`. Knows no run, no front and no store.
"""
