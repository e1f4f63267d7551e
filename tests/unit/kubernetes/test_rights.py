import pytest

from jupyter_mlops.kubernetes.rights import (
    CLUSTER_RIGHTS,
    INTERACTIVE_RIGHTS,
    RIGHTS,
    Subject,
    binding_manifest,
    cluster_manifests,
    interactive_manifests,
    right,
    role_manifest,
    subject_of,
)


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


def test_ports_of_pods_are_a_right_of_their_own_that_runs_do_not_ask_for() -> None:
    assert [(each.resource, each.verbs) for each in INTERACTIVE_RIGHTS] == [("pods/portforward", ("create", "get"))]
    asked = {resource for rule in role_manifest(namespace="a")["rules"] for resource in rule["resources"]}
    assert "pods/portforward" not in asked
    ann = Subject("User", "ann")
    role, binding = interactive_manifests(ann, namespace="a")
    assert [rule["resources"] for rule in role["rules"]] == [["pods/portforward"]]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    # Of a name of its own: applied, it takes nothing away from what runs need.
    assert role["metadata"]["name"] != role_manifest(namespace="a")["metadata"]["name"]
    assert binding["metadata"]["name"] != binding_manifest(ann, namespace="a")["metadata"]["name"]
    assert right("", "pods/portforward") == INTERACTIVE_RIGHTS[0]


def test_what_is_not_needed_has_no_right() -> None:
    assert right("apps", "deployments") is None


@pytest.mark.parametrize(
    ("user", "subject"),
    [
        ("ann@example.org", Subject("User", "ann@example.org")),
        ("system:serviceaccount:hub:ann", Subject("ServiceAccount", "ann", "hub")),
        ("system:node:a", Subject("User", "system:node:a")),
    ],
)
def test_a_user_name_of_the_api_server_is_a_subject(user: str, subject: Subject) -> None:
    assert subject_of(user) == subject


def test_a_binding_gives_the_role_to_one_subject_and_takes_it_from_nobody() -> None:
    ann, account = Subject("User", "a n/n"), Subject("ServiceAccount", "a n/n", "hub")
    found = binding_manifest(ann, namespace="team-a")
    assert found["roleRef"]["name"] == role_manifest(namespace="team-a")["metadata"]["name"]
    assert found["metadata"]["namespace"] == "team-a"
    assert found["subjects"] == [{"kind": "User", "name": "a n/n", "apiGroup": "rbac.authorization.k8s.io"}]
    other = binding_manifest(account, namespace="team-a")
    assert other["subjects"] == [{"kind": "ServiceAccount", "name": "a n/n", "namespace": "hub"}]
    assert other["metadata"]["name"] != found["metadata"]["name"]
    assert not set("/ %") & set(found["metadata"]["name"])


def test_the_role_over_all_namespaces_only_lists() -> None:
    role, binding = cluster_manifests(Subject("Group", "ml"))
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"list"}
    assert {resource for rule in role["rules"] for resource in rule["resources"]} == {"nodes", "pods"}
    assert (role["kind"], binding["kind"]) == ("ClusterRole", "ClusterRoleBinding")
    assert "namespace" not in {**role["metadata"], **binding["metadata"]}
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
