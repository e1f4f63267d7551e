"""The job scheduler: turns the moments of jobs into slots, and slots into runs, each once.

Any number of processes work over one store. What decides (`due`, `admission`, `outcome`) is pure; `loop` does it;
a `Launcher` starts runs. Knows no front.
"""
