"""Dask clusters that stay warm between runs: their head, what runs beside it, and the ways to reach it.

The head (`head`) is one process with a Dask scheduler, which also takes runs in (`acceptor`) and executes each in an
engine that was made ready before (`spare`). It is the same on this machine and in a pod. From outside, `known` says
which clusters there are, `reach` connects, `local` and `pods` start and end them. Knows no store and no front.
"""
