"""Which differences between an image and the notebook's environment matter."""

from __future__ import annotations

from typing import Any

import pytest

from jupyter_mlops.kubernetes.versions import compare_versions

HERE = {"cloudpickle": "3.1.0", "dask": "2026.8.0", "distributed": "2026.8.0", "mlflow": "3.17.2", "numpy": "2.0.0"}


def compare(**changes: Any) -> Any:
    fields: dict[str, Any] = {
        "python": "3.11.7", "packages": HERE, "image_python": "3.11.2", "image_packages": HERE, "image": "team/train:1",
        "pickled": False,
    }  # fmt: skip
    return compare_versions(**{**fields, **changes})


@pytest.mark.parametrize("pickled", [True, False])
def test_the_same_versions_are_worth_no_word(pickled: bool) -> None:
    verdict = compare(pickled=pickled)
    assert (verdict.refusal, verdict.hint, verdict.notice) == ("", "", "")


def test_a_notebook_goes_on_with_another_python_and_says_so() -> None:
    verdict = compare(image_python="3.12.1")
    assert not verdict.refusal
    assert verdict.notice == "The image has Python 3.12.1 (not 3.11.7): results may differ from those here."


def test_pickled_values_are_refused_by_another_python() -> None:
    verdict = compare(image_python="3.12.1", pickled=True)
    assert verdict.refusal == (
        "The cell's values were pickled by Python 3.11, and the image team/train:1 has Python 3.12, which cannot read "
        "all of them."
    )
    assert verdict.hint == "Use a kernel with Python 3.12, or a profile whose image has Python 3.11."


@pytest.mark.parametrize(
    ("theirs", "pickled", "refused"), [("2.2.1", True, True), ("3.0.0", True, False), ("2.2.1", False, False)]
)
def test_another_major_cloudpickle_matters_to_what_it_pickled(theirs: str, pickled: bool, refused: bool) -> None:
    verdict = compare(image_packages={**HERE, "cloudpickle": theirs}, pickled=pickled)
    assert bool(verdict.refusal) is refused
    assert ("cloudpickle" in verdict.notice) is not refused


def test_each_package_that_differs_or_is_missing_is_named_and_no_other() -> None:
    theirs = {"cloudpickle": "3.1.0", "dask": "2024.8.1", "mlflow": "3.17.2", "numpy": "1.26.0"}
    notice = compare(image_packages=theirs).notice
    assert "dask 2024.8.1 (not 2026.8.0)" in notice
    assert "no distributed (here 2026.8.0)" in notice
    assert "numpy" not in notice
    assert "mlflow" not in notice


def test_what_the_notebook_did_not_have_is_no_difference() -> None:
    assert compare(packages={}).notice == ""
