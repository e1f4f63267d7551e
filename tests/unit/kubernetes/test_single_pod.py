import json
from base64 import b64decode
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlops.errors import ProfileError
from jupyter_mlops.kubernetes import names
from jupyter_mlops.kubernetes.single_pod import SinglePod, reworded, single_pod_job, single_pod_secret
from jupyter_mlops.profile import DNS_LABEL, Profile


def asked(name: str = "gpu-large", **fields: Any) -> SinglePod:
    profile = Profile(**{"name": name, "runner": "kubernetes", "image": "a/b:1", **fields})
    return SinglePod(
        component="kernel", token="0123abcd", profile=profile, owner="ann", command=("python", "-m", "kernel"),
        lifetime=600, keep=60, grace=10, secret_dir="/kernel",
    )  # fmt: skip


def test_what_a_profile_says_of_pods_holds_for_it_too() -> None:
    job = single_pod_job(
        asked(gpus=2, memory="8Gi", node_selector={"a": "b"}, env_from_secrets=["login"]), namespace="n"
    )
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["resources"]["limits"] == {"memory": "8Gi", "nvidia.com/gpu": "2"}
    assert container["envFrom"] == [{"secretRef": {"name": "login"}}]
    assert pod["nodeSelector"] == {"a": "b"}
    assert pod["restartPolicy"] == "Never"
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert (job["spec"]["backoffLimit"], job["spec"]["activeDeadlineSeconds"]) == (0, 600)


def test_of_a_profile_with_several_pods_it_gets_the_part_of_one() -> None:
    job = single_pod_job(asked(gpus=4, pods=4, memory="8Gi"), namespace="n")
    assert job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] == {
        "memory": "2Gi", "nvidia.com/gpu": "1"
    }  # fmt: skip


def test_a_secret_is_in_no_manifest_but_its_own_which_the_job_owns() -> None:
    wanted = asked()
    job = single_pod_job(wanted, namespace="n")
    owner = {"metadata": {"name": wanted.name, "uid": "u-1"}}
    secret = single_pod_secret(wanted, {"key": "k-e-y"}, file="kernel.json", namespace="n", owner=owner)
    assert json.loads(b64decode(secret["data"]["kernel.json"])) == {"key": "k-e-y"}
    assert secret["metadata"]["ownerReferences"][0]["uid"] == "u-1"
    assert "k-e-y" not in json.dumps(job)
    mounts = job["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert {"name": "secret", "mountPath": "/kernel", "readOnly": True} in mounts
    # No pod before its Secret: the kubelet would wait longer after each look for it.
    assert job["spec"]["suspend"] is True
    assert single_pod_job(replace(wanted, secret_dir=""), namespace="n")["spec"]["suspend"] is False


def test_a_queue_decides_when_it_starts() -> None:
    job = single_pod_job(replace(asked(queue="team-a"), secret_dir=""), namespace="n")
    assert job["metadata"]["labels"][names.QUEUE_LABEL] == "team-a"
    assert job["spec"]["suspend"] is True


@given(st.text(min_size=1, max_size=63))
def test_any_profile_gives_a_valid_name(name: str) -> None:
    found = asked(name).name
    assert DNS_LABEL.fullmatch(found)
    assert len(found) <= names.LONGEST_NAME
    assert found.endswith("-0123abcd")


def test_without_an_image_it_is_refused() -> None:
    with pytest.raises(ProfileError, match="names no image"):
        single_pod_job(asked(image=None), namespace="n")


def test_sentences_about_runs_are_told_of_what_it_is() -> None:
    assert reworded("The run waits for the run's place.", "kernel") == "The kernel waits for the kernel's place."
    assert reworded("Retry the run: it was not your code.", "kernel").startswith("Start the kernel again")
    assert reworded("the runner and the rung", "kernel") == "the runner and the rung"
