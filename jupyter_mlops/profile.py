"""A profile: named resources that an admin offers. Knows no runner and no cluster."""

from __future__ import annotations

import os
import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_UNITS = {
    "": 1,
    "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50,
}  # fmt: skip
_QUANTITY = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(k|[MGTP]i?|Ki)?B?\s*$")


def parse_bytes(value: object) -> object:
    """Bytes from a Kubernetes quantity of memory ("4Gi", "500M", "1.5GB") or a plain number.

    Source: Kubernetes' resource.Quantity, whose decimal and binary suffixes are meant here; the milli
    suffix makes no sense for memory and is refused.

    Raises:
        ValueError: it is neither.
    """
    if not isinstance(value, str):
        return value
    found = _QUANTITY.match(value)
    if found is None:
        raise ValueError(f"{value!r} is no amount of memory: write it like 4Gi, 500M or 2000000000")
    return int(float(found[1]) * _UNITS[found[2] or ""])


Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(gt=0)]


class Profile(BaseModel):
    """Named resources for one run.

    Attributes:
        name: What `--profile` takes.
        runner: The runner that offers it, by entry-point name.
        cpus: CPU cores for the whole run; None: all of the machine.
        memory: Bytes for the whole run (accepts "8Gi"); None: no limit of ours.
        gpus: GPUs for the whole run; 0: none, None: every one that is visible.
        workers: Dask workers; None: one per GPU, else one per two cores.
        image: Container image, where the runner uses one.
        queue: Queue to wait in, where the runner has one.
        node_selector: Labels that a node must have, where the runner has nodes.
        description: One line for a list.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=63)
    runner: str = "local"
    cpus: float | None = Field(default=None, gt=0)
    memory: Bytes | None = None
    gpus: int | None = Field(default=None, ge=0)
    workers: int | None = Field(default=None, ge=1)
    image: str | None = None
    queue: str | None = None
    node_selector: dict[str, str] = Field(default_factory=dict)
    description: str = ""

    def worker_count(self) -> int:
        """Dask workers on CPU: as asked, else one per two cores, at least one."""
        if self.workers is not None:
            return self.workers
        return max(1, self.cpu_count() // 2)

    def cpu_count(self) -> int:
        """Whole CPU cores: as asked, else those that this process may use; at least one."""
        if self.cpus is not None:
            return max(1, int(self.cpus))
        try:
            return len(os.sched_getaffinity(0))
        except AttributeError:  # macOS and Windows
            return os.cpu_count() or 1
