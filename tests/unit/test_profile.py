import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlops.config import load_config
from jupyter_mlops.errors import ProfileError
from jupyter_mlops.profile import DNS_LABEL, DNS_SUBDOMAIN, LABEL_KEY, LABEL_VALUE, Profile

FULL: dict[str, Any] = {
    "name": "gpu", "runner": "kubernetes", "image": "registry.example.org:5000/team/train:1.2@sha256:" + "0" * 64,
    "gpus": 4, "pods": 2, "queue": "team-a", "node_selector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
    "gpu_resource": "nvidia.com/mig-3g.40gb", "shm": "8Gi", "rmm_pool": 0.5, "device_memory_limit": 0.7,
    "protocol": "ucx", "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "env_from_secrets": ["mlflow-login"], "namespace": "team-a", "context": "prod/admin@site",
    "service_account": "runs", "priority_class": "high", "image_pull_secrets": ["registry"], "ttl": 600, "retries": 0,
}  # fmt: skip


def test_a_profile_is_the_same_after_json() -> None:
    profile = Profile(**FULL)
    assert Profile.model_validate(json.loads(json.dumps(profile.model_dump()))) == profile


def refusal(fields: dict[str, Any]) -> ProfileError:
    config = load_config()
    config.profiles = {"x": fields}
    with pytest.raises(ProfileError) as caught:
        config.profile("x")
    return caught.value


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("image", "Registry/Train:1", "'Registry/Train:1' is no image"),
        ("image", "train:1\n", "is no image"),
        ("image", "https://registry.example.org/train", "is no image"),
        ("image", "a" * 501, "at most 500"),
        ("namespace", "Team_A", "'Team_A' is no name for Kubernetes"),
        ("namespace", "team.a", "RFC 1123"),
        ("namespace", "a" * 64, "RFC 1123"),
        ("namespace", "team-a\n", "RFC 1123"),
        ("queue", "a" * 64, "at most 63"),
        ("service_account", "-runs", "RFC 1123"),
        ("priority_class", "High", "RFC 1123"),
        ("image_pull_secrets", ["ok", "not ok"], "wrong image_pull_secrets.1"),
        ("env_from_secrets", ["$(rm -rf)"], "wrong env_from_secrets.0"),
        ("node_selector", {"a b": "c"}, "is no key of a label"),
        ("node_selector", {"a": "b c"}, "is no value of a label"),
        ("gpu_resource", "gpu", "write it like nvidia.com/gpu"),
        ("rmm_pool", "lots", "amount of memory"),
        ("rmm_pool", -0.1, "neither a share"),
        ("rmm_pool", float("nan"), "neither a share"),
        ("rmm_pool", True, "neither a share"),
        ("device_memory_limit", 1.5, "wrong device_memory_limit"),
        ("protocol", "tls", "'tcp', 'ucx' or 'ucxx'"),
        ("pods", 0, "wrong pods"),
        ("retries", -1, "wrong retries"),
        ("ttl", -1, "wrong ttl"),
        ("tolerations", [{"operator": "Equal"}], "needs the operator Exists"),
        ("tolerations", [{"key": "a", "operator": "Exists", "value": "b"}], "takes no value"),
        ("tolerations", [{"key": "a", "effect": "Never"}], "wrong tolerations.0.effect"),
    ],
)
def test_what_kubernetes_would_refuse_is_refused_with_the_configuration(field: str, value: Any, words: str) -> None:
    message = str(refusal({field: value}))
    assert message.startswith("The profile 'x' has a wrong ")
    assert words in message
    assert "Value error" not in message


@pytest.mark.parametrize(
    ("fields", "guess"),
    [
        ({"podz": 2}, "Did you mean 'pods'?"),
        ({"gpu_ressource": "nvidia.com/gpu"}, "Did you mean 'gpu_resource'?"),
        ({"tolerations": [{"kee": "a"}]}, "Did you mean 'key'?"),
        ({"tolerations": [{"tolerationSeconds": 3}]}, "Did you mean 'toleration_seconds'?"),
    ],
)
def test_an_unknown_field_names_the_nearest(fields: dict[str, Any], guess: str) -> None:
    error = refusal(fields)
    assert "unknown field" in str(error)
    assert error.hint.startswith(guess)


@pytest.mark.parametrize(
    "image",
    ["python", "python:3.11", "localhost/x_y__z-1", "registry.example.org:5000/a/b:1", "[::1]:5000/x",
     "nvcr.io/nvidia/rapidsai/base:25.08-cuda12.0-py3.12", "x@sha256:" + "a" * 64],
)  # fmt: skip
def test_images_as_registries_have_them_are_taken(image: str) -> None:
    assert Profile(name="x", image=image).image == image


@pytest.mark.parametrize(
    ("given_", "kept"), [(0.5, 0.5), ("0.5", 0.5), (1, 1.0), (0, 0.0), ("20Gi", 20 * 2**30), (2**30, 2**30)]
)
def test_a_pool_is_a_share_or_an_amount(given_: Any, kept: float) -> None:
    assert Profile(name="x", rmm_pool=given_).rmm_pool == kept


# The rules of k8s.io/apimachinery, pkg/util/validation, in other words than ours.
def is_label(text: str) -> bool:
    inner = "abcdefghijklmnopqrstuvwxyz0123456789"
    return 0 < len(text) < 64 and set(text) <= {*inner, "-"} and text[0] != "-" and text[-1] != "-"


names = st.text(alphabet="ab09-._/AZ\n é", max_size=70)


@given(names)
def test_names_are_those_of_rfc_1123(text: str) -> None:
    assert bool(DNS_LABEL.fullmatch(text)) == is_label(text)
    assert bool(DNS_SUBDOMAIN.fullmatch(text)) == (len(text) < 254 and all(map(is_label, text.split("."))))


@given(names)
def test_values_of_labels_are_those_that_kubernetes_takes(text: str) -> None:
    plain = text.isascii() and text.replace("-", "a").replace("_", "a").replace(".", "a").isalnum()
    ends = text[:1].isalnum() and text[-1:].isalnum()
    assert bool(LABEL_VALUE.fullmatch(text)) == (text == "" or (plain and ends and len(text) < 64))


@pytest.mark.parametrize("key", ["a", "a.b/c_d", "nvidia.com/gpu.product", "a" * 63 + "/" + "B" * 63])
def test_keys_of_labels_may_have_a_domain(key: str) -> None:
    assert LABEL_KEY.fullmatch(key)


@pytest.mark.parametrize("key", ["", "/a", "a/", "a/b/c", "A.b/c", "a b", "-a", "a-", "a" * 64, "a\n"])
def test_other_keys_of_labels_are_refused(key: str) -> None:
    assert LABEL_KEY.fullmatch(key) is None
