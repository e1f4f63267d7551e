import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlops.profile import Profile
from jupyter_mlops.spec import RunSpec, new_run_id

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def spec(**changes: Any) -> RunSpec:
    fields: dict[str, Any] = {
        "name": "n", "notebook": "n.ipynb", "source": "/p/n.ipynb", "snapshot_id": "s", "profile": Profile(name="local"),
        "experiment": "e", "tracking_uri": "sqlite:///x", "owner": "o",
    }  # fmt: skip
    return RunSpec(**{**fields, **changes})


def same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        return (math.isnan(left) and math.isnan(right)) or (
            left == right and math.copysign(1, left) == math.copysign(1, right)
        )
    if isinstance(left, list):
        return type(right) is list and len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return type(right) is dict and list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    return type(left) is type(right) and bool(left == right)


@given(st.dictionaries(st.text(), values, max_size=4))
def test_a_spec_is_the_same_after_its_file_whatever_the_parameters(parameters: dict[str, Any]) -> None:
    before = spec(parameters=parameters)
    after = RunSpec.from_json(before.to_json())
    assert same(after.parameters, before.parameters)
    assert after.to_json() == before.to_json()


def test_a_run_id_can_be_part_of_a_kubernetes_name() -> None:
    assert len({spec(run_id=new_run_id()).run_id for _ in range(100)}) == 100


@pytest.mark.parametrize("run_id", ["", "-a", "A", "a/b", "../x", "a" * 60])
def test_a_run_id_that_could_leave_its_directory_is_refused(run_id: str) -> None:
    with pytest.raises(ValueError, match="run_id"):
        spec(run_id=run_id)
