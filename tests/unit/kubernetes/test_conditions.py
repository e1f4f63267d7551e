from jupyter_mlops.kubernetes.conditions import condition, events_of, is_true, said, text_of

THING = {"metadata": {"uid": "u1"}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}


def test_a_condition_holds_only_when_it_is_true() -> None:
    assert condition(THING, "Ready") == {"type": "Ready", "status": "Unknown"}
    assert not is_true(THING, "Ready")
    assert condition({}, "Ready") is None


def test_events_of_both_apis_are_put_in_order_by_when_they_were_last_seen() -> None:
    events = [
        # events.k8s.io/v1, seen three times
        {"regarding": {"uid": "u1"}, "note": "third", "eventTime": "2026-11-24T10:00:00.000000Z",
         "series": {"lastObservedTime": "2026-11-24T10:00:09.500000Z"}},
        # v1
        {"involvedObject": {"uid": "u1"}, "message": "second", "lastTimestamp": "2026-11-24T10:00:05Z"},
        {"involvedObject": {"uid": "u1"}, "message": "first", "lastTimestamp": None,
         "eventTime": "2026-11-24T10:00:04.100000Z"},
        {"involvedObject": {"uid": "u2"}, "message": "of another"},
        {"involvedObject": {"uid": "u1"}, "message": "without a time"},
    ]  # fmt: skip
    assert [text_of(event) for event in events_of(events, THING)] == ["without a time", "first", "second", "third"]


def test_an_object_without_a_uid_has_no_events() -> None:
    assert events_of([{"involvedObject": {}}], {"metadata": {}}) == []


def test_events_of_the_same_second_keep_the_order_in_which_the_server_lists_them() -> None:
    events = [
        {"involvedObject": {"uid": "u1"}, "message": text, "lastTimestamp": "2026-11-24T10:00:05Z"} for text in "ab"
    ]
    assert [text_of(event) for event in events_of(events, THING)] == ["a", "b"]


def test_kubernetes_own_words_are_joined_without_gaps() -> None:
    assert said("Failed", "why") == "Failed: why"
    assert said("", "why") == "why"
    assert said(None, None) == ""
