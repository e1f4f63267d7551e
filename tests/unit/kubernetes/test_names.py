import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jupyter_mlops.kubernetes import names
from jupyter_mlops.profile import DNS_LABEL, LABEL_KEY, LABEL_VALUE

from .specs import spec

# RFC 1035, which a Service's name must follow (IsDNS1035Label in k8s.io/apimachinery, pkg/util/validation).
SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
run_ids = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?\Z")
notebooks = st.text(min_size=1).map(lambda stem: f"{stem}.ipynb")


@given(run_id=run_ids, notebook=notebooks)
def test_a_job_name_is_valid_for_every_object_whatever_the_notebook_is_called(run_id: str, notebook: str) -> None:
    name = names.job_name(spec(run_id=run_id, notebook=notebook))
    assert len(name) <= names.LONGEST_NAME
    assert SERVICE_NAME.fullmatch(name)
    # NAME-INDEX-xxxxx is the longest name that Kubernetes makes of it (the largest index that a profile can have).
    assert DNS_LABEL.fullmatch(f"{name}-999-abcde")


@given(first=run_ids, second=run_ids, notebook=notebooks)
@example(first="x", second="a-x", notebook="l" * 48 + "-a.ipynb")
def test_two_runs_never_share_a_name(first: str, second: str, notebook: str) -> None:
    one, other = (names.job_name(spec(run_id=run_id, notebook=notebook)) for run_id in (first, second))
    assert (one == other) == (first == second)


@pytest.mark.parametrize(
    ("notebook", "name"),
    [
        ("models/train_churn.ipynb", "train-churn-0f9a3c5e7b21"),
        ("Prévision d'été.ipynb", "prevision-d-ete-0f9a3c5e7b21"),
        ("01_load.ipynb", "run-01-load-0f9a3c5e7b21"),
        ("学習.ipynb", "run-0f9a3c5e7b21"),
        ("a" * 200 + ".ipynb", "a" * 39 + "-0f9a3c5e7b21"),
        ("x" * 38 + "-tail.ipynb", "x" * 38 + "-0f9a3c5e7b21"),
    ],
)
def test_a_job_name_tells_the_notebook(notebook: str, name: str) -> None:
    assert names.job_name(spec(notebook=notebook)) == name


@given(st.text(max_size=300))
def test_a_label_is_valid_whatever_it_is_made_from(text: str) -> None:
    assert LABEL_VALUE.fullmatch(names.label_value(text))


@given(st.text(max_size=100), st.text(max_size=100))
def test_two_owners_never_share_a_label(one: str, other: str) -> None:
    assert (names.label_value(one) == names.label_value(other)) == (one == other)


def test_a_label_says_what_it_can_of_its_text() -> None:
    assert names.label_value("ann") == "ann"
    assert re.fullmatch(r"ann-example\.org-[0-9a-f]{8}", names.label_value("ann@example.org"))


@given(owner=st.text(), name=st.text(min_size=1), source=st.text(), experiment=st.text(min_size=1))
def test_labels_and_annotations_are_valid_whatever_people_wrote(
    owner: str, name: str, source: str, experiment: str
) -> None:
    hostile = spec(owner=owner, name=name, source=source, experiment=experiment)
    for key, value in names.run_labels(hostile).items():
        assert LABEL_KEY.fullmatch(key)
        assert LABEL_VALUE.fullmatch(value)
    for key, value in names.run_annotations(hostile).items():
        assert LABEL_KEY.fullmatch(key)
        value.encode("utf-8")
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", value)


def test_an_annotation_keeps_what_a_label_cannot() -> None:
    told = names.run_annotations(spec(owner="ann@example.org", source="/home/ann/学習.ipynb"), mlflow_run_id="m1")
    assert told[names.OWNER_ANNOTATION] == "ann@example.org"
    assert told[names.NOTEBOOK_ANNOTATION] == "/home/ann/学習.ipynb"
    assert told[names.MLFLOW_RUN_ANNOTATION] == "m1"


def test_all_annotations_together_stay_far_below_what_kubernetes_takes() -> None:
    long = "x" * 10**5
    told = names.run_annotations(spec(owner=long, name=long, source=long, experiment=long, snapshot_id=long))
    assert sum(len(key) + len(value.encode()) for key, value in told.items()) < 256 * 1024


def test_a_run_is_found_again_in_its_objects() -> None:
    thing = {"metadata": {"labels": names.run_labels(spec()), "annotations": names.run_annotations(spec())}}
    assert names.run_of(thing) == (spec().run_id, "ann")
    assert names.run_of({"metadata": {"labels": {"app": "other"}}}) is None
    assert names.run_of({"metadata": {}}) is None


def test_the_selector_is_part_of_the_labels() -> None:
    assert names.selector(spec()).items() <= names.run_labels(spec()).items()
