"""Whether everything that runs need is here, a line each: what is looked at, how it stands, and what to do.

Each check is a function that gives one `Check`, and is called by itself: one that fails hides no other. What decides is
pure; what looks is short. Starts no run, makes no pod and reads no Secret; knows no front.

    check.py    the value, and calling a check so that it cannot fail
    machine.py  this machine: packages, data directory, store, MLflow, kernel, GPU
    cluster.py  a profile on Kubernetes
"""
