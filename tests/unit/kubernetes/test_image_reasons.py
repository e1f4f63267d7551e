"""The kubelet's texts: k8s.io/kubernetes v1.34.4, pkg/kubelet/images/image_manager.go and types.go. What follows in them
is the container runtime's (containerd 1.6 to 2.1, remotes/docker; CRI-O, containers/image) and the registry's."""

from __future__ import annotations

from typing import Any

import pytest

from jupyter_mlops.kubernetes.image_reasons import IMAGE_TROUBLES, image_trouble, pulling
from jupyter_mlops.kubernetes.reason import Stage

from .objects import event, waiting

IMAGE = "registry.example.org/team/train:1"
PULL = (
    f'rpc error: code = {{}} desc = failed to pull and unpack image "{IMAGE}": failed to resolve reference "{IMAGE}": '
)


def look(reason: str, message: str, events: list[dict[str, Any]] | None = None, image: str = IMAGE) -> Any:
    return image_trouble({"reason": reason, "message": message}, image, events or [], node="node-7")


@pytest.mark.parametrize(
    ("message", "cause", "blocked", "words"),
    [
        # containerd: core/remotes/docker/resolver.go, `errdefs.ErrNotFound` of a manifest
        (PULL.format("NotFound") + f"{IMAGE}: not found", "image_not_found", True, "does not exist in its registry"),
        # CRI-O: containers/image, docker/docker_image_src.go; the registry's code MANIFEST_UNKNOWN
        (f"reading manifest 1 in {IMAGE}: manifest unknown", "image_not_found", True, "does not exist"),
        (f"reading manifest 1 in {IMAGE}: name unknown: repository not known", "image_not_found", True, "not exist"),
        # containerd with Docker Hub, which does not tell the two apart
        (
            "failed to pull and unpack image \"docker.io/library/nosuch:1\": failed to resolve reference \"docker.io/library"
            "/nosuch:1\": pull access denied, repository does not exist or may require authorization: server message: "
            "insufficient_scope: authorization failed",
            "image_missing_or_forbidden", True, "does not exist, or these nodes may not pull it",
        ),
        (
            f"initializing source docker://{IMAGE}: reading manifest 1: requested access to the resource is denied",
            "image_missing_or_forbidden", True, "the registry does not tell which",
        ),
        # containerd: core/remotes/docker/auth, HEAD of the manifest
        (
            PULL.format("Unknown") + "unexpected status from HEAD request to https://registry.example.org/v2/team/train/"
            "manifests/1: 401 Unauthorized", "image_forbidden", True, "asks for credentials",
        ),
        (
            PULL.format("Unknown") + "failed to authorize: failed to fetch anonymous token: unexpected status from GET "
            "request to https://registry.example.org/token: 403 Forbidden", "image_forbidden", True, "credentials",
        ),
        (f"reading manifest 1 in {IMAGE}: unauthorized: authentication required", "image_forbidden", True, "credentials"),
        # Go's net package
        (
            PULL.format("Unknown") + 'failed to do request: Head "https://registry.example.org/v2/team/train/manifests/1": '
            "dial tcp: lookup registry.example.org on 10.96.0.10:53: no such host", "image_dns", False, "has no address",
        ),
        (
            PULL.format("Unknown") + "failed to do request: Head: dial tcp: lookup registry.example.org: Temporary failure "
            "in name resolution", "image_dns", False, "DNS",
        ),
        (
            PULL.format("Unknown") + "failed to do request: Head: dial tcp: lookup registry.example.org on [::1]:53: read "
            "udp [::1]:41000->[::1]:53: read: connection refused", "image_dns", False, "DNS",
        ),
        # Go's crypto/tls and net/http
        (
            PULL.format("Unknown") + "failed to do request: Head: tls: failed to verify certificate: x509: certificate "
            "signed by unknown authority", "image_tls", True, "does not trust",
        ),
        (
            PULL.format("Unknown") + "failed to do request: Head: http: server gave HTTP response to HTTPS client",
            "image_tls", True, "does not trust",
        ),
        (
            PULL.format("Unknown") + "failed to do request: Head: dial tcp 10.0.0.5:443: connect: connection refused",
            "image_unreachable", False, "does not answer the node",
        ),
        (PULL.format("Unknown") + "dial tcp 10.0.0.5:443: i/o timeout", "image_unreachable", False, "does not answer"),
        (PULL.format("Unavailable") + "502 Bad Gateway", "image_unreachable", False, "does not answer"),
        # Docker Hub, and any registry with a limit
        (
            PULL.format("Unknown") + "429 Too Many Requests - Server message: toomanyrequests: You have reached your pull "
            "rate limit.", "image_limit", False, "too many pulls",
        ),
        # containerd: core/images/image.go; CRI-O: containers/image
        (PULL.format("NotFound") + "no match for platform in manifest: not found", "image_platform", True, "processor"),
        (
            "choosing an image from manifest list: no image found in image index for architecture \"arm64\", variant "
            '"v8", OS "linux"', "image_platform", True, "processor",
        ),
        (
            PULL.format("Unknown") + "failed to extract layer sha256:1: write /var/lib/x: no space left on device",
            "node_disk", False, "does not fit onto the node's disk",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff"])
def test_why_an_image_does_not_come_is_told_apart(
    reason: str, message: str, cause: str, blocked: bool, words: str
) -> None:
    # From 1.32 on the back-off repeats what happened; the form is that of EnsureImageExists in image_manager.go.
    whole = message if reason == "ErrImagePull" else f'Back-off pulling image "{IMAGE}": ErrImagePull: {message}'
    found = look(reason, whole)
    assert (found.cause, found.blocked, found.stage) == (cause, blocked, Stage.PENDING)
    assert words in found.message
    assert IMAGE in found.message
    assert found.hint
    assert found.raw == f"{reason}: {whole}"
    assert found.code is None


@pytest.mark.parametrize(
    ("reason", "message", "cause"),
    [
        # image_manager.go: applyDefaultImageTag, whose error is that of github.com/distribution/reference
        (
            "InvalidImageName",
            'Failed to apply default image tag "Registry/Train:1": couldn\'t parse image name "Registry/Train:1": invalid '
            "reference format: repository name (library/Registry/Train) must be lowercase",
            "image_name",
        ),
        ("ErrImageNeverPull", f'Container image "{IMAGE}" is not present with pull policy of Never', "image_not_on_node"),
        (
            "SignatureValidationFailed",
            f"image pull failed for {IMAGE} because the signature validation failed: no policy",
            "image_signature",
        ),
    ],
)  # fmt: skip
def test_an_image_that_can_never_come_blocks_at_once(reason: str, message: str, cause: str) -> None:
    found = look(reason, message)
    assert (found.cause, found.blocked) == (cause, True)
    assert found.hint
    assert reason in IMAGE_TROUBLES


def test_a_registry_that_is_away_is_said_so_by_the_kubelet_itself() -> None:
    # image_manager.go: evalCRIPullErr
    message = f"image pull failed for {IMAGE} because the registry is unavailable: 503"
    assert look("RegistryUnavailable", message).cause == "image_unreachable"


def test_a_back_off_that_says_nothing_is_explained_by_the_event_of_the_attempt() -> None:
    # Up to 1.31 the waiting message is only this; the events are those of image_manager.go.
    pod = waiting("ImagePullBackOff")
    events = [
        event(pod, "Pulling", f'Pulling image "{IMAGE}"', at=1),
        event(pod, "Failed", f'Failed to pull image "{IMAGE}": {PULL.format("NotFound")}{IMAGE}: not found', at=2),
        event(pod, "Failed", "Error: ErrImagePull", at=2, kind="Warning"),
        event(pod, "BackOff", f'Back-off pulling image "{IMAGE}"', at=3),
        event(pod, "Failed", "Error: ImagePullBackOff", at=3, kind="Warning"),
    ]
    found = look("ImagePullBackOff", f'Back-off pulling image "{IMAGE}"', events)
    assert found.cause == "image_not_found"
    assert "failed to resolve reference" in found.raw


def test_while_an_attempt_goes_on_the_last_failure_is_told_and_does_not_block() -> None:
    pod = waiting("ImagePullBackOff")
    events = [
        event(pod, "Failed", f'Failed to pull image "{IMAGE}": {PULL.format("NotFound")}{IMAGE}: not found', at=2),
        event(pod, "BackOff", f'Back-off pulling image "{IMAGE}"', at=3),
        event(pod, "Pulling", f'Pulling image "{IMAGE}"', at=9),
    ]
    found = look("ImagePullBackOff", f'Back-off pulling image "{IMAGE}"', events)
    assert (found.stage, found.blocked) == (Stage.PULLING, False)
    assert "being pulled once more" in found.message
    assert "does not exist" in found.message


def test_words_in_the_images_own_name_decide_nothing() -> None:
    image = "registry.example.org/unauthorized/not-found:401"
    found = look("ErrImagePull", f'failed to resolve reference "{image}": dial tcp: i/o timeout', image=image)
    assert found.cause == "image_unreachable"


def test_a_reason_that_is_not_known_passes_through() -> None:
    found = look("ErrImagePull", "the moon is in the wrong phase")
    assert (found.cause, found.raw) == ("ErrImagePull", "ErrImagePull: the moon is in the wrong phase")
    assert not found.blocked


def test_a_slow_image_is_no_fault() -> None:
    found = pulling(IMAGE, "node-7")
    assert (found.stage, found.cause, found.blocked) == (Stage.PULLING, "pulling", False)
    assert "node-7" in found.message


def test_the_node_with_the_full_disk_is_named() -> None:
    assert "node-7" in look("ErrImagePull", "no space left on device").hint
