from jupyter_mlops.kubernetes.rights import CLUSTER_RIGHTS, RIGHTS, right, role_manifest


def test_the_role_has_every_right_and_no_more() -> None:
    role = role_manifest(namespace="team-a")
    asked = {(rule["apiGroups"][0], rule["resources"][0], tuple(rule["verbs"])) for rule in role["rules"]}
    assert asked == {(each.group, each.resource, each.verbs) for each in RIGHTS}
    assert role["metadata"]["namespace"] == "team-a"


def test_a_client_never_reads_a_secret_and_never_gets_into_a_pod() -> None:
    secrets = right("", "secrets")
    assert secrets is not None
    assert secrets.verbs == ("create",)
    for each in (*RIGHTS, *CLUSTER_RIGHTS):
        assert "*" not in (each.group, each.resource, *each.verbs)
        assert each.resource not in ("pods/exec", "pods/attach", "pods/portforward")


def test_what_is_not_needed_has_no_right() -> None:
    assert right("apps", "deployments") is None
