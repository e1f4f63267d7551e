"""Which differences between a client and an image matter."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlops.image.versions import COMPARED, installed_versions, mismatches

SAME = {
    "python": "3.11.9",
    "jupyter-mlops": "0.3.1",
    "cloudpickle": "3.1.1",
    "mlflow": "3.6.0",
    "distributed": "2025.9.1",
    "dask": "2025.9.1",
}


def test_the_same_versions_fit() -> None:
    assert mismatches(SAME, SAME) == []


@pytest.mark.parametrize(
    ("name", "image", "severe"),
    [
        ("python", "3.11.2", None),  # a patch changes no bytecode
        ("python", "3.11", None),  # as the image's label has it
        ("python", "3.12.9", True),
        ("python", "3.1.19", True),  # not the same as 3.11: numbers, not letters
        ("python", "4.11.9", True),
        ("jupyter-mlops", "0.3.9", None),
        ("jupyter-mlops", "0.3.2.dev4+gabc", None),
        ("jupyter-mlops", "0.4.0", True),
        ("jupyter-mlops", "1.3.1", True),
        ("cloudpickle", "3.1.2", False),
        ("cloudpickle", "2.2.1", True),
        ("mlflow", "3.6.4", None),
        ("mlflow", "3.6.0rc1", None),
        ("mlflow", "3.5.0", False),
        ("mlflow", "2.22.0", True),
        ("dask", "2025.9.0", False),
        ("dask", "2024.9.1", False),
        ("dask", "2025.9.1+company.2", None),  # the same release, built by somebody else
        ("distributed", "2025.10.0", False),
    ],
)
def test_a_difference_matters_as_much_as_its_project_says(name: str, image: str, severe: bool | None) -> None:
    found = mismatches(SAME, {**SAME, name: image})
    if severe is None:
        assert found == []
        return
    (mismatch,) = found
    assert (mismatch.package, mismatch.client, mismatch.image, mismatch.severe) == (name, SAME[name], image, severe)


def test_it_is_one_sentence_with_both_versions_and_a_remedy_that_can_be_typed() -> None:
    (mismatch,) = mismatches(SAME, {**SAME, "mlflow": "3.5.2"})
    assert mismatch.message == (
        "The image has MLflow 3.5.2 and you have 3.6.0: models and runs that one writes may not be read by the other."
    )
    assert "pip install 'mlflow==3.5.*'" in mismatch.hint
    assert "jupyter mlops image build" in mismatch.hint
    (mismatch,) = mismatches(SAME, {**SAME, "dask": "2025.7.0"})
    assert "pip install 'dask==2025.7.0'" in mismatch.hint
    (mismatch,) = mismatches(SAME, {**SAME, "python": "3.12.1"})
    assert mismatch.message.startswith("The image has Python 3.12.1 and you have 3.11.9: ")
    assert "work with Python 3.12." in mismatch.hint
    assert "pip" not in mismatch.hint


def test_what_the_image_lacks_is_severe_and_what_the_client_lacks_is_not_compared() -> None:
    image = {name: version for name, version in SAME.items() if name != "dask"}
    (mismatch,) = mismatches(SAME, image)
    assert (mismatch.package, mismatch.image, mismatch.severe) == ("dask", "", True)
    assert mismatch.message == "The image has no Dask, which a run needs."
    assert mismatches(image, {**SAME, "dask": "1.0"}) == []
    assert mismatches({}, {}) == []


def test_the_severe_come_first() -> None:
    found = mismatches(SAME, {**SAME, "cloudpickle": "3.0.0", "dask": "1.0", "mlflow": "2.0", "python": "3.9"})
    assert [(one.package, one.severe) for one in found] == [
        ("python", True), ("mlflow", True), ("cloudpickle", False), ("dask", False),
    ]  # fmt: skip


@given(st.dictionaries(st.sampled_from(COMPARED), st.text(max_size=20)), st.text(max_size=20))
def test_no_text_is_too_strange_to_be_compared(image: dict[str, str], here: str) -> None:
    for mismatch in mismatches(dict.fromkeys(COMPARED, here), image):
        assert mismatch.message
        assert mismatch.hint
    assert mismatches(image, image) == [] or "" in image.values()


def test_it_tells_what_is_installed_here() -> None:
    import cloudpickle

    found = installed_versions()
    assert set(found) == set(COMPARED)
    assert found["cloudpickle"] == cloudpickle.__version__
    assert found["python"] == "{}.{}.{}".format(*sys.version_info)
    assert mismatches(found, found) == []


def test_it_needs_nothing_but_the_standard_library() -> None:
    code = (
        "import sys; before = set(sys.modules); import jupyter_mlops.image.versions as v; v.installed_versions(); "
        "print(*sorted({m.split('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["jupyter_mlops"]
