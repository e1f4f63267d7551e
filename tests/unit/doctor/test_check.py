from __future__ import annotations

from jupyter_mlops.doctor.check import Check, State, settle
from jupyter_mlops.errors import StoreError


def test_what_a_check_finds_is_given_as_it_is() -> None:
    found = Check("x", State.OK, "All is well.")
    assert settle("x", lambda: found) is found


def test_an_error_with_a_sentence_is_a_problem_with_its_remedy() -> None:
    def look() -> Check:
        raise StoreError("The store is locked.", hint="End the process that holds it.")

    assert settle("store", look) == Check(
        "store", State.PROBLEM, "The store is locked.", "End the process that holds it."
    )


def test_a_check_that_breaks_is_not_known_and_tells_no_password() -> None:
    def look() -> Check:
        raise RuntimeError("postgresql://ann:secret@db/x\nfailed")

    found = settle("store", look)
    assert found.state is State.UNKNOWN
    assert "RuntimeError" in found.message
    assert "secret" not in found.message
    assert "\n" not in found.message


def test_json_has_the_words_that_a_person_reads() -> None:
    assert Check("quota", State.UNKNOWN, "m").as_dict() == {
        "name": "quota", "state": "not known", "message": "m", "remedy": "",
    }  # fmt: skip
