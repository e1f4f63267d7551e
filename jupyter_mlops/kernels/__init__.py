"""Kernels in pods: one pod for each, which the stock Jupyter client starts, interrupts, restarts and ends.

    provisioner.py  what jupyter_client calls; asynchronous, decides nothing
    pod.py          one kernel's pod: made, waited for, its end understood; deleted
    link.py         the line to the pod's supervisor, and whether the pod is lost
    last_word.py    tells the cell that was executed why its kernel is gone
    specs.py        kernelspecs, one for each profile on Kubernetes
    running.py      the kernels in pods that a person has

The pod's side is `kubernetes.pod_kernel`. Knows no run, no front and no store.
"""
