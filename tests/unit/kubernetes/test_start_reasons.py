"""The texts are those of v1.34.4; each row says where from."""

from __future__ import annotations

import pytest

from jupyter_mlops.kubernetes.pod_reasons import explain_pod
from jupyter_mlops.kubernetes.reason import Stage
from jupyter_mlops.kubernetes.start_reasons import config_error

from .objects import IMAGE, event, pod, waiting


@pytest.mark.parametrize(
    ("message", "cause", "words"),
    [
        # k8s.io/kubernetes, pkg/kubelet/kubelet_pods.go: makeEnvironmentVariables; the API server's NotFound
        ('secret "mlflow-login" not found', "secret_missing", "The Secret mlflow-login does not exist in the namespace."),
        ('configmap "settings" not found', "configmap_missing", "The ConfigMap settings does not exist"),
        ("couldn't find key password in Secret team-a/mlflow-login", "key_missing",
         "The Secret mlflow-login has no key password."),
        ("couldn't find key a in ConfigMap team-a/settings", "key_missing", "The ConfigMap settings has no key a."),
        # pkg/kubelet/kuberuntime/security_context_others.go: verifyRunAsNonRoot
        ('container has runAsNonRoot and image will run as root (pod: "x_team-a(1)", container: run)', "image_user",
         f"The image {IMAGE} would run as root"),
        ('container has runAsNonRoot and image has non-numeric user (jovyan), cannot verify user is non-root (pod: "x", '
         "container: run)", "image_user", "does not say by number"),
        ("the moon is in the wrong phase", "CreateContainerConfigError", "the moon is in the wrong phase"),
    ],
)  # fmt: skip
def test_what_keeps_a_container_from_being_configured_is_named(message: str, cause: str, words: str) -> None:
    found = explain_pod(waiting("CreateContainerConfigError", message))
    assert found == config_error(message, IMAGE)
    assert (found.stage, found.cause, found.blocked) == (Stage.STARTING, cause, True)
    assert words in found.message
    assert found.hint
    assert message in found.raw


@pytest.mark.parametrize(
    ("reason", "message", "cause", "blocked", "words"),
    [
        # pkg/volume/util/operationexecutor/operation_generator.go: MountVolume.SetUp
        ("FailedMount", 'MountVolume.SetUp failed for volume "data" : secret "login" not found', "secret_missing", True,
         "The Secret login does not exist"),
        ("FailedMount", 'MountVolume.SetUp failed for volume "data" : configmap "settings" not found', "configmap_missing",
         True, "The ConfigMap settings does not exist"),
        ("FailedMount", 'MountVolume.SetUp failed for volume "certificates" : secret "train-abc" not found', "certificate",
         False, "waits for its certificate"),
        ("FailedMount", 'MountVolume.SetUp failed for volume "data" : mount failed: exit status 32', "volume", False,
         "The volume data cannot be mounted"),
        # pkg/kubelet/kubelet.go: SyncPod; volumemanager: WaitForAttachAndMount
        ("FailedMount", "Unable to attach or mount volumes: unmounted volumes=[data], unattached volumes=[], failed to "
         "process volumes=[]: timed out waiting for the condition", "volume", False, "The volume data cannot be mounted"),
        # the attach-detach controller
        ("FailedAttachVolume", 'AttachVolume.Attach failed for volume "pvc-1" : rpc error: no such disk', "volume", False,
         "The volume pvc-1 cannot"),
        ("FailedAttachVolume", 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) other',
         "volume_in_use", False, "The volume pvc-1 is attached to another node"),
        # pkg/kubelet/kuberuntime/kuberuntime_manager.go; the rest is the network plugin's
        ("FailedCreatePodSandBox", 'Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network '
         'for sandbox: plugin type="calico" failed (add): no addresses', "sandbox", False, "node-1 cannot prepare a place"),
        # pkg/kubelet/errors.go
        ("NetworkNotReady", "network is not ready: container runtime network not ready: NetworkReady=false", "network",
         False, "network of the node node-1 is not ready"),
        ("FailedPrepareDynamicResources", "Failed to prepare dynamic resources: NodePrepareResources failed", "device_claim",
         False, "devices"),
        ("SomethingNew", "the text", "SomethingNew", False, "has trouble starting on the node node-1: the text"),
    ],
)  # fmt: skip
def test_what_a_starting_pod_waits_for_is_told(
    reason: str, message: str, cause: str, blocked: bool, words: str
) -> None:
    starting = waiting("ContainerCreating")
    found = explain_pod(
        starting, [event(starting, "Scheduled"), event(starting, reason, message, at=5, kind="Warning")]
    )
    assert (found.stage, found.cause, found.blocked) == (Stage.STARTING, cause, blocked)
    assert words in found.message
    assert found.hint
    assert message in found.raw


def test_trouble_that_has_passed_is_not_told() -> None:
    starting = waiting("ContainerCreating")
    events = [
        event(starting, "FailedMount", 'MountVolume.SetUp failed for volume "a" : x', at=1, kind="Warning"),
        event(starting, "Pulled", "Container image already present on machine", at=2),
    ]
    found = explain_pod(starting, events)
    assert (found.cause, found.message) == ("starting", "The run is starting on the node node-1.")


def test_a_pod_that_was_just_placed_is_starting() -> None:
    assert explain_pod(pod()).cause == "starting"
