"""Kubernetes' quantities ("500m", "4Gi", "1e3") as numbers, and amounts as a person reads them."""

from __future__ import annotations

import re
from decimal import Decimal

_SUFFIXES = {
    "": Decimal(1),
    "n": Decimal(10) ** -9, "u": Decimal(10) ** -6, "m": Decimal(10) ** -3,
    "k": Decimal(10) ** 3, "M": Decimal(10) ** 6, "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12, "P": Decimal(10) ** 15, "E": Decimal(10) ** 18,
    "Ki": Decimal(2) ** 10, "Mi": Decimal(2) ** 20, "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40, "Pi": Decimal(2) ** 50, "Ei": Decimal(2) ** 60,
}  # fmt: skip
_QUANTITY = re.compile(
    r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:[eE]([+-]?[0-9]{1,3})|(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?)"
)


def parse_quantity(value: object) -> Decimal:
    """The number that a quantity means.

    Source: the grammar in k8s.io/apimachinery, pkg/api/resource/quantity.go.

    Raises:
        ValueError: it is none.
    """
    found = _QUANTITY.fullmatch(str(value).strip())
    if found is None:
        raise ValueError(f"{value!r} is no quantity")
    number = Decimal(found[1])
    return number.scaleb(int(found[2])) if found[2] is not None else number * _SUFFIXES[found[3] or ""]


def amount(resource: str, count: Decimal | float) -> str:
    """So much of a resource, as a person reads it: `4 GPUs`, `1.5 CPU cores`, `128 GiB memory`.

    Args:
        resource: As Kubernetes names it, with or without `requests.` or `limits.`.
        count: In the resource's base unit: cores, bytes, pieces.
    """
    name = resource.removeprefix("requests.").removeprefix("limits.")
    if name in ("memory", "ephemeral-storage", "storage"):
        return f"{format_bytes(count)} {'memory' if name == 'memory' else 'disk'}"
    number = f"{Decimal(count):.3f}".rstrip("0").rstrip(".")
    one = number == "1"
    if name == "cpu":
        return f"{number} CPU core{'' if one else 's'}"
    if name == "pods":
        return f"{number} pod{'' if one else 's'}"
    if name.startswith("count/"):
        kind = name.removeprefix("count/").partition(".")[0]
        return f"{number} {kind.removesuffix('s') if one else kind}"
    if is_gpu(name):
        kind = name.partition("/")[2]
        called = "GPU" if kind in ("gpu", "gpu.shared") else kind
        return f"{number} {called}{'' if one or called != 'GPU' else 's'}"
    return f"{number} {name}"


def is_gpu(resource: str) -> bool:
    """Whether an extended resource is a GPU, or a slice of one, of a maker whose device plugin we know."""
    return resource.startswith(("nvidia.com/gpu", "nvidia.com/mig-", "amd.com/gpu", "gpu.intel.com/"))


def format_bytes(count: Decimal | float) -> str:
    """Bytes for a person, in binary units and no more digits than tell something: `128 GiB`, `1.5 GiB`."""
    size = float(count)
    units = ["B", "KiB", "MiB", "GiB", "TiB"]
    while abs(size) >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.1f}".removesuffix(".0") + f" {units[0]}"
