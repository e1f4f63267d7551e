"""What runs in every pod of a run: `python -m jupyter_mlops.kubernetes.pod`. Its index says which part it plays.

Index 0 is the head, which runs the notebook; the others are Dask workers. What both owe to the client stands in
`contract`. Imports next to nothing, as it is the first process of the container and outlives what it starts.
"""

from __future__ import annotations

import os
import sys

from . import contract


def main(arguments: list[str] | None = None) -> int:
    """Play the part.

    Args:
        arguments: None for a pod; the head calls itself with `--engine`, `--cancelled-by` and the like.

    Returns:
        An exit status of `contract`.
    """
    flags = sys.argv[1:] if arguments is None else arguments
    if flags:
        from . import pod_engine

        return pod_engine.main(flags[0])
    if int(os.environ.get(contract.INDEX_VARIABLE) or 0):
        from . import pod_worker

        return pod_worker.main()
    from . import pod_head

    return pod_head.main()


if __name__ == "__main__":
    sys.exit(main())
