import pytest

pytest.register_assert_rewrite("tests.unit.store.cases", "tests.unit.store.job_cases")
