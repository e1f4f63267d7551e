from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlops.kubernetes.quantities import amount, format_bytes, is_gpu, parse_quantity


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", "1"), (4, "4"), ("500m", "0.5"), ("4Gi", str(4 * 2**30)), ("1.5G", "1500000000"), ("1e3", "1000"),
        ("1E3", "1000"), ("1E", "1000000000000000000"), ("-2Ki", "-2048"), ("+.5", "0.5"), ("0", "0"), ("100n", "1e-7"),
        ("12e-1", "1.2"), ("128974848", "128974848"), (" 1 ", "1"),
    ],
)  # fmt: skip
def test_a_quantity_is_read_as_kubernetes_reads_it(text: object, number: str) -> None:
    assert parse_quantity(text) == Decimal(number)


@pytest.mark.parametrize(
    "text", ["", "Gi", "1 Gi", "1gi", "1KB", "0x1", "1e", "1e1000", "one", "nan", "inf", "1.2.3", "٣"]
)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no quantity"):
        parse_quantity(text)


@given(st.integers(0, 10**18), st.sampled_from(["", "k", "M", "Ki", "Mi", "Gi"]))
def test_whole_amounts_stay_exact(number: int, unit: str) -> None:
    factor = {"": 1, "k": 10**3, "M": 10**6, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}[unit]
    assert parse_quantity(f"{number}{unit}") == number * factor


@pytest.mark.parametrize(
    ("resource", "count", "text"),
    [
        ("nvidia.com/gpu", 1, "1 GPU"), ("requests.nvidia.com/gpu", 4, "4 GPUs"), ("cpu", 1.5, "1.5 CPU cores"),
        ("limits.cpu", 1, "1 CPU core"), ("memory", 128 * 2**30, "128 GiB memory"), ("amd.com/gpu", 2, "2 GPUs"),
        ("requests.ephemeral-storage", 2**30, "1 GiB disk"), ("nvidia.com/mig-3g.40gb", 2, "2 mig-3g.40gb"),
        ("pods", 1, "1 pod"), ("count/jobs.batch", 50, "50 jobs"), ("example.com/foo", 3, "3 example.com/foo"),
        ("nvidia.com/gpu.shared", 2, "2 GPUs"),
    ],
)  # fmt: skip
def test_an_amount_is_written_for_a_person(resource: str, count: float, text: str) -> None:
    assert amount(resource, count) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**30, "1 GiB"), (3 * 2**50, "3072 TiB")]
)
def test_bytes_are_written_with_no_more_digits_than_tell_something(count: int, text: str) -> None:
    assert format_bytes(count) == text


def test_gpus_are_known_by_their_makers_names() -> None:
    assert is_gpu("nvidia.com/gpu")
    assert is_gpu("nvidia.com/mig-1g.5gb")
    assert not is_gpu("cpu")
    assert not is_gpu("example.com/gpu")
