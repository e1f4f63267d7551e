import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_mlops.errors import ProfileError, UsageError
from jupyter_mlops.kubernetes import contract, manifest, names
from jupyter_mlops.kubernetes.pod_template import literal, pod_resources
from jupyter_mlops.profile import Profile

from . import golden
from .specs import profile, spec

OWNER = {"metadata": {"name": "train-churn-0f9a3c5e7b21", "uid": "u1"}}
VARIABLES = {name: value for name, value in vars(contract).items() if name.endswith("_VARIABLE")}


def container(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = job["spec"]["template"]["spec"]["containers"][0]
    return found


def variables(job: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container(job)["env"]}


@pytest.mark.parametrize("name", golden.CASES)
def test_a_manifest_is_what_its_file_says(name: str) -> None:
    path = golden.DIRECTORY / f"{name}.yaml"
    assert path.read_text(encoding="utf-8") == golden.text_of(golden.CASES[name]), (
        "look at what changes, then: python -m tests.unit.kubernetes.golden"
    )


def test_every_file_has_its_case() -> None:
    assert {path.stem for path in Path(golden.DIRECTORY).iterdir()} == set(golden.CASES)


def expanded(text: str, environment: dict[str, str]) -> str:
    """What Kubernetes makes of a value: Expand in third_party/forked/golang/expansion/expand.go, read anew."""
    out, at = "", 0
    while at < len(text):
        if text[at] != "$" or at + 1 == len(text):
            out, at = out + text[at], at + 1
        elif text[at + 1] == "$":
            out, at = out + "$", at + 2
        elif text[at + 1] == "(" and ")" in text[at:]:
            end = text.index(")", at)
            name = text[at + 2 : end]
            out, at = out + environment.get(name, f"$({name})"), end + 1
        else:
            out, at = out + text[at : at + 2], at + 2
    return out


pieces = st.lists(st.sampled_from(["$", "$$", "$(", ")", "SECRET", "$(SECRET)", "x", "(", " "]) | st.text(max_size=3))


@given(pieces.map("".join))
def test_a_value_arrives_as_it_is_and_never_as_another_variable(text: str) -> None:
    arrives = expanded(literal(text), {"SECRET": "hunter2", "": "hunter2"})
    assert arrives == text.replace("\x00", "").encode("utf-8", "replace").decode()


hostile = st.text(min_size=1, max_size=40) | st.sampled_from(
    ["$(MLFLOW_TRACKING_PASSWORD)", "'\"\n---\nkind: Secret", "{{ .Values.x }}", "!!python/object/apply:os.system [id]",
     "yes", "0x1f", "2026-11-24", "a: b", "\x1b[31m", "\u202e", "\x85", "\ufeff", "&anchor *alias", "null", "- x"]
)  # fmt: skip


@settings(max_examples=60)
@given(
    owner=hostile,
    name=hostile,
    source=hostile,
    notebook=hostile,
    experiment=hostile,
    description=hostile,
    context=hostile,
    profile_name=hostile,
    parameters=st.dictionaries(hostile, hostile, max_size=2),
)
def test_whatever_people_write_the_manifests_are_valid_and_the_same_after_yaml_and_json(
    owner: str, name: str, source: str, notebook: str, experiment: str, description: str, context: str,
    profile_name: str, parameters: dict[str, str],
) -> None:  # fmt: skip
    run = spec(
        {"pods": 2, "name": profile_name, "description": description, "context": context},
        owner=owner, name=name, source=source, notebook=notebook, experiment=experiment, parameters=parameters,
    )  # fmt: skip
    job = manifest.job_manifest(run, mlflow_run_id="m1")
    for each in (job, manifest.service_manifest(run, owner=OWNER), manifest.network_policy_manifest(run, owner=OWNER)):
        assert yaml.safe_load(yaml.safe_dump(each)) == each
        assert json.loads(json.dumps(each)) == each
        metadata = each["metadata"]
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,50}[a-z0-9])?", metadata["name"])
        assert all(names.LABEL_VALUE.fullmatch(value) for value in metadata["labels"].values())
    told = json.loads(expanded(variables(job)[contract.PROFILE_VARIABLE], {}))
    assert Profile.model_validate(told) == run.profile.model_copy(update={"description": "", "context": None})
    assert container(job)["command"] == [*contract.COMMAND]


def test_no_secret_stands_in_a_manifest_but_in_the_certificate() -> None:
    run = spec({"pods": 2, "env_from_secrets": ["mlflow-login"]}, parameters={"api_key": "hunter2hunter2"})
    text = json.dumps(
        [manifest.job_manifest(run), manifest.service_manifest(run), manifest.network_policy_manifest(run)]
    )
    assert "hunter2" not in text
    assert container(manifest.job_manifest(run))["envFrom"] == [{"secretRef": {"name": "mlflow-login"}}]
    secret = manifest.certificate_secret_manifest(run, ca="CA", certificate="CERT", key="KEY", owner=OWNER)
    data = {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}
    assert data == {contract.CA_FILE: "CA", contract.CERTIFICATE_FILE: "CERT", contract.KEY_FILE: "KEY"}
    assert secret["immutable"]
    assert secret["metadata"]["ownerReferences"][0]["uid"] == "u1"
    mounted = manifest.job_manifest(run)["spec"]["template"]["spec"]["volumes"][-1]
    assert mounted["secret"]["secretName"] == secret["metadata"]["name"]


def test_an_address_with_credentials_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as caught:
        manifest.job_manifest(spec(tracking_uri="https://ann:hunter2@mlflow.example.org"))
    assert "hunter2" not in f"{caught.value}{caught.value.hint}"
    assert "env_from_secrets" in caught.value.hint


@pytest.mark.parametrize(
    "uri",
    ["sqlite:////home/ann/mlflow.db", "file:///mlruns", "", "http://localhost:5000", "http://127.0.0.1:5000", "mlflow",
     "http://127.1.2.3", "http://[::1]:5000", "http://0.0.0.0:5000", "http://x.localhost", "http://", "databricks"],
)  # fmt: skip
def test_an_mlflow_that_no_pod_can_reach_is_refused_before_the_start(uri: str) -> None:
    with pytest.raises(UsageError, match="cannot be reached from a pod"):
        manifest.check(spec(tracking_uri=uri))


@pytest.mark.parametrize(
    "uri", ["http://mlflow:5000", "https://localhost.example.org", "http://10.0.0.7", "http://[fd00::7]"]
)
def test_an_mlflow_elsewhere_is_taken(uri: str) -> None:
    manifest.check(spec(tracking_uri=uri))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": None}, "names no image"),
        ({"gpus": 3, "pods": 2}, "cannot share 3 GPUs evenly between 2 pods"),
        ({"gpus": 2, "gpu_resource": "nvidia.com/mig-1g.10gb"}, "asks for 2 slices"),
        ({"memory": "4Gi", "shm": "4Gi"}, "as much memory as a whole pod"),
        ({"memory": "4Gi", "pods": 2, "shm": "2Gi"}, "as much memory as a whole pod"),
        ({"memory": "1Gi", "pods": 4}, "one needs 256 MiB"),
    ],
)
def test_a_profile_whose_parts_do_not_come_out_is_refused_before_the_start(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ProfileError, match=words) as caught:
        manifest.job_manifest(spec(changes))
    assert caught.value.hint


@given(
    cpus=st.floats(0.001, 4096),
    memory=st.integers(1, 2**45),
    gpus=st.integers(0, 8),
    pods=st.integers(1, 64),
)
def test_the_pods_together_get_no_more_than_the_profile_has(cpus: float, memory: int, gpus: int, pods: int) -> None:
    from jupyter_mlops.kubernetes.quantities import parse_quantity

    each = pod_resources(profile(cpus=cpus, memory=memory, gpus=gpus * pods, pods=pods))
    assert parse_quantity(each["cpu"]) * pods <= max(cpus, 0.001 * pods) + 1e-9
    assert parse_quantity(each["memory"]) * pods <= memory
    assert parse_quantity(each.get("nvidia.com/gpu", 0)) == gpus


def test_requests_and_limits_are_the_same_and_what_is_not_asked_for_is_left_out() -> None:
    resources = container(manifest.job_manifest(spec({"cpus": 1.5, "memory": "3Gi", "gpus": 1, "pods": 1})))[
        "resources"
    ]
    assert resources["requests"] == resources["limits"]
    assert resources["limits"] == {"cpu": "1500m", "memory": "3Gi", "nvidia.com/gpu": "1"}
    assert "resources" not in container(manifest.job_manifest(spec({"cpus": None, "memory": None})))


@pytest.mark.parametrize("name", golden.CASES)
def test_pods_meet_the_restricted_pod_security_standard(name: str) -> None:
    """The controls of https://kubernetes.io/docs/concepts/security/pod-security-standards, profile Restricted."""
    pod = golden.CASES[name][0]["spec"]["template"]["spec"]
    assert not any(pod.get(field) for field in ("hostNetwork", "hostPID", "hostIPC", "initContainers"))
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    for each in pod["containers"]:
        context = each["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["runAsNonRoot"] is True
        assert not {"privileged", "runAsUser", "procMount", "seLinuxOptions"} & context.keys()
        assert not any(port.get("hostPort") for port in each.get("ports", []))
    assert {next(iter(volume.keys() - {"name"})) for volume in pod["volumes"]} <= {"emptyDir", "secret"}


@pytest.mark.parametrize("name", golden.CASES)
def test_pods_write_only_where_they_may_and_hold_no_token(name: str) -> None:
    pod = golden.CASES[name][0]["spec"]["template"]["spec"]
    main = pod["containers"][0]
    assert main["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["automountServiceAccountToken"] is False
    mounts = {mount["mountPath"]: mount["name"] for mount in main["volumeMounts"]}
    assert {contract.WORK_DIR, contract.HOME_DIR, contract.TEMPORARY_DIR, contract.SPILL_DIR, contract.SHM_DIR} <= set(
        mounts
    )
    assert {volume["name"] for volume in pod["volumes"]} == set(mounts.values())
    shm = next(volume for volume in pod["volumes"] if volume["name"] == "shm")
    assert shm["emptyDir"]["medium"] == "Memory"


def test_a_notebooks_failure_ends_the_job_before_a_disruption_is_looked_at() -> None:
    rules = manifest.job_manifest(spec())["spec"]["podFailurePolicy"]["rules"]
    assert rules[0]["action"] == "FailJob"
    assert rules[0]["onExitCodes"]["values"] == [contract.EXIT_RECORDED]
    assert rules[1]["action"] == "Ignore"
    assert rules[1]["onPodConditions"][0]["type"] == "DisruptionTarget"


def test_several_pods_have_a_name_to_find_each_other_by() -> None:
    run = spec({"pods": 3})
    job, service = manifest.job_manifest(run), manifest.service_manifest(run)
    template = job["spec"]["template"]
    assert (job["spec"]["parallelism"], job["spec"]["completions"]) == (3, 3)
    assert template["spec"]["subdomain"] == service["metadata"]["name"] == variables(job)[contract.SERVICE_VARIABLE]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert service["spec"]["publishNotReadyAddresses"] is True
    ports = {port["name"] for port in container(job)["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} == ports
    assert container(job)["readinessProbe"]["httpGet"]["port"] in ports
    assert "livenessProbe" not in container(job)


def test_one_pod_needs_neither_name_nor_certificate_nor_an_open_port() -> None:
    run = spec({"gpus": 4})
    job = manifest.job_manifest(run)
    assert not manifest.needs_certificates(run)
    assert not {"ports", "readinessProbe"} & container(job).keys()
    assert "subdomain" not in job["spec"]["template"]["spec"]
    assert not {contract.SERVICE_VARIABLE, contract.CERTIFICATES_VARIABLE} & variables(job).keys()
    assert manifest.network_policy_manifest(run)["spec"]["ingress"] == []


def test_only_the_pods_of_the_run_may_reach_each_other() -> None:
    policy = manifest.network_policy_manifest(spec({"pods": 2}))["spec"]
    labels = manifest.job_manifest(spec({"pods": 2}))["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["ingress"] == [{"from": [{"podSelector": policy["podSelector"]}]}]
    assert not policy["podSelector"]["matchLabels"].items() <= names.run_labels(spec(run_id="abc")).items()


@pytest.mark.parametrize(("protocol", "encrypted"), [("tcp", True), ("ucx", False), ("ucxx", False)])
def test_pods_that_speak_tcp_show_each_other_certificates(protocol: str, encrypted: bool) -> None:
    run = spec({"pods": 2, "protocol": protocol})
    job = manifest.job_manifest(run)
    assert manifest.needs_certificates(run) is encrypted
    assert (contract.CERTIFICATES_VARIABLE in variables(job)) is encrypted
    assert any("secret" in volume for volume in job["spec"]["template"]["spec"]["volumes"]) is encrypted


def test_a_queue_holds_the_job_by_its_label_and_gives_the_priority() -> None:
    job = manifest.job_manifest(spec({"queue": "team-a", "priority_class": "production"}))
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"][names.QUEUE_LABEL] == "team-a"
    assert job["metadata"]["labels"][names.PRIORITY_LABEL] == "production"
    assert "priorityClassName" not in job["spec"]["template"]["spec"]


def test_without_a_queue_the_job_starts_at_once_unless_it_is_held() -> None:
    job = manifest.job_manifest(spec({"priority_class": "production"}))
    assert job["spec"]["suspend"] is False
    assert job["spec"]["template"]["spec"]["priorityClassName"] == "production"


def test_a_job_that_is_held_asks_for_no_pod_and_ends_by_itself_unless_it_is_released() -> None:
    run = spec({"pods": 4}, run_timeout=60.0)
    held, whole = manifest.job_manifest(run, held=True), manifest.job_manifest(run)
    assert (held["spec"]["suspend"], held["spec"]["parallelism"], held["spec"]["completions"]) == (False, 0, 4)
    assert held["spec"]["activeDeadlineSeconds"] == manifest.HOLD
    released = {**held["spec"], **manifest.release(whole)["spec"]}
    assert released == whole["spec"]
    assert manifest.release(manifest.job_manifest(spec({"pods": 4})))["spec"]["activeDeadlineSeconds"] is None


def test_a_queue_counts_the_pods_of_a_job_that_is_held() -> None:
    held = manifest.job_manifest(spec({"pods": 4, "queue": "team-a"}), held=True)["spec"]
    assert (held["suspend"], held["parallelism"], held["activeDeadlineSeconds"]) == (True, 4, manifest.HOLD)


@pytest.mark.parametrize(
    ("timeout", "deadline"), [(None, None), (60.0, 300), (0.5, 241), (1e12, 2**31 - 1)]
)  # fmt: skip
def test_the_deadline_is_a_net_under_the_time_out(timeout: float | None, deadline: int | None) -> None:
    job = manifest.job_manifest(spec(run_timeout=timeout), start_allowance=120)
    assert job["spec"].get("activeDeadlineSeconds") == deadline


def test_an_old_server_gets_no_success_policy() -> None:
    assert manifest.job_manifest(spec())["spec"]["successPolicy"] == {"rules": [{"succeededIndexes": "0"}]}
    assert "successPolicy" not in manifest.job_manifest(spec(), success_policy=False)["spec"]


def test_the_namespace_given_wins_over_the_profiles() -> None:
    assert manifest.job_manifest(spec())["metadata"]["namespace"] == "team-a"
    assert manifest.service_manifest(spec(), namespace="team-b")["metadata"]["namespace"] == "team-b"
    assert "namespace" not in manifest.job_manifest(spec({"namespace": None}))["metadata"]


def test_the_pod_learns_every_variable_of_the_contract_but_those_that_kubernetes_sets() -> None:
    known = variables(manifest.job_manifest(spec({"pods": 2}), mlflow_run_id="m1"))
    of_others = {contract.IDLE_VARIABLE, contract.CLUSTER_VARIABLE}  # pods of kernels and of clusters
    assert set(VARIABLES.values()) - known.keys() - of_others == {contract.INDEX_VARIABLE}


def test_a_runs_spec_can_be_a_cronjobs_template() -> None:
    run = spec({"pods": 2})
    assert manifest.job_spec(run, mlflow_run_id="m1") == manifest.job_manifest(run, mlflow_run_id="m1")["spec"]
