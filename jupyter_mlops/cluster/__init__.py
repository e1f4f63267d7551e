"""The Dask cluster that a run, or a person's notebook, uses on this machine: `jupyter_mlops.get_client()`.

`local` decides what to start (`plan_cluster`, pure) and starts it; `client` keeps the one cluster of a process. May
not know runners, engines or MLflow: all it reads is the profile, and all it tells is `dask.json` in the run's
directory. Importing it imports no Dask.
"""
