"""The entry of `jupyter mlops`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit: 0 fine, 1 a run failed, 2 wrong use, 130 the view was interrupted."""
    from ..startup import start_quickly

    start_quickly()
    from .app import mlops

    mlops.main(prog_name="jupyter mlops", args=_arguments())


def _arguments() -> list[str]:
    # `jupyter mlops X` calls `jupyter-mlops X`.
    return sys.argv[1:]


if __name__ == "__main__":
    main()
