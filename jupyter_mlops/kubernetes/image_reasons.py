"""Why an image does not come: not there, no right, no name, no way, or only slow.

The kubelet passes on the words of the container runtime and of the registry, so the texts differ between containerd and
CRI-O and between registries; what decides is the few words that all of them share.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .conditions import said, text_of
from .reason import Reason, Stage

_ASK_RIGHT = (
    "Name a Secret with the registry's credentials in the profile's 'image_pull_secrets'; an admin makes one with "
    "kubectl create secret docker-registry."
)
_TRY_AGAIN = "Kubernetes tries again by itself."

# In this order: an address that does not resolve is also "not pulled", and a registry that wants a login says
# "not found or no right" in one breath.
_CAUSES: tuple[tuple[str, re.Pattern[str], str, str, bool], ...] = (
    (
        "image_dns",
        re.compile(r"no such host|server misbehaving|temporary failure in name resolution|lookup \S+ on \S+:", re.I),
        "The registry of the image {image} has no address: the node's DNS does not know its name.",
        "Check the registry's name in the profile's 'image', or ask the platform team about DNS on the node.",
        False,
    ),
    (
        "image_tls",
        re.compile(r"x509:|tls: |gave HTTP response to HTTPS client|certificate signed by unknown", re.I),
        "The registry of the image {image} shows a certificate that the node does not trust.",
        "Ask the platform team to give the nodes the registry's authority.",
        True,
    ),
    (
        "image_limit",
        re.compile(r"toomanyrequests|429 Too Many|rate limit", re.I),
        "The registry of the image {image} refuses for now: too many pulls.",
        f"{_TRY_AGAIN} A copy in your own registry, or credentials in 'image_pull_secrets', has no such limit.",
        False,
    ),
    (
        "image_missing_or_forbidden",
        re.compile(r"repository does not exist or may require|requested access to the resource is denied", re.I),
        "The image {image} does not exist, or these nodes may not pull it: the registry does not tell which.",
        f"Check its name. {_ASK_RIGHT}",
        True,
    ),
    (
        "image_forbidden",
        re.compile(
            r"\b40[13]\b|unauthorized|authentication required|access denied|insufficient_scope|no basic auth", re.I
        ),
        "The image {image} may not be pulled: the registry asks for credentials, or refuses those it got.",
        _ASK_RIGHT,
        True,
    ),
    (
        "image_platform",
        re.compile(r"no match for platform|no matching manifest|no image found in .* for architecture", re.I),
        "The image {image} is not made for the processor of the node.",
        "Build it for this architecture, or choose other nodes with the profile's 'node_selector'.",
        True,
    ),
    (
        "image_not_found",
        re.compile(r"not found|manifest unknown|name unknown|does not exist|\bNotFound\b", re.I),
        "The image {image} does not exist in its registry.",
        "Check its name and tag in the profile's 'image', and that it was pushed.",
        True,
    ),
    (
        "node_disk",
        re.compile(r"no space left on device", re.I),
        "The image {image} does not fit onto the node's disk.",
        "Tell the platform team which node it is, or choose other nodes with the profile's 'node_selector'.",
        False,
    ),
    (
        "image_unreachable",
        re.compile(
            r"connection refused|i/o timeout|connection reset|no route to host|network is unreachable|TLS handshake "
            r"timeout|deadline exceeded|RegistryUnavailable|registry is unavailable|\b50[0234]\b|EOF",
            re.I,
        ),
        "The registry of the image {image} does not answer the node.",
        f"{_TRY_AGAIN} If it lasts, ask the platform team whether the node reaches the registry.",
        False,
    ),
)
_AT_ONCE = {
    "InvalidImageName": (
        "image_name",
        "The name of the image {image} is not valid.",
        "Write the profile's 'image' like registry.example.org/team/image:tag, in lower case.",
    ),
    "ErrImageNeverPull": (
        "image_not_on_node",
        "The image {image} is not on the node, and the pod may not pull it.",
        "Load it onto the node, or let the platform team lift the policy that forbids pulling.",
    ),
    "SignatureValidationFailed": (
        "image_signature",
        "The image {image} is not signed as the node asks for.",
        "Use a signed image, or ask the platform team which ones are accepted.",
    ),
}
IMAGE_TROUBLES = frozenset({"ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable", *_AT_ONCE})
"""Reasons of a waiting container that are about its image (pkg/kubelet/images/types.go, cri-api/pkg/errors)."""


def image_trouble(
    waiting: Mapping[str, Any], image: str, events: Sequence[Mapping[str, Any]], *, node: str = ""
) -> Reason:
    """Why a container waits for its image.

    Args:
        waiting: Its `state.waiting`, with one of `IMAGE_TROUBLES` as its reason.
        image: Its image.
        events: The pod's, the oldest first.
        node: Where it is pulled to.
    """
    reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
    if reason in _AT_ONCE:
        cause, sentence, hint = _AT_ONCE[reason]
        return Reason(Stage.PENDING, cause, sentence.format(image=image), hint, said(reason, message), blocked=True)
    pulls = [event for event in events if _is_about_pulling(event)]
    # "Back-off pulling image" alone says nothing: what happened stands in the event of the attempt (up to 1.31).
    attempts = [text_of(event) for event in pulls if event.get("reason") == "Failed"]
    raw = message if _classified(message, image) or not attempts else attempts[-1]
    found = _classified(raw, image)
    if found is None:
        sentence, hint = "The image {image} could not be pulled.", "Show the text below to the platform team."
        cause, blocked = reason, False
    else:
        cause, _, sentence, hint, blocked = found
    told = sentence.format(image=image)
    if pulls and pulls[-1].get("reason") == "Pulling":
        again = f"The image {image} is being pulled once more; the last attempt: {told}"
        return Reason(Stage.PULLING, cause, again, hint, said(reason, raw))
    if cause == "node_disk" and node:
        hint = hint.replace("which node it is", f"that it is the node {node}")
    return Reason(Stage.PENDING, cause, told, hint, said(reason, raw), blocked=blocked)


def pulling(image: str, node: str) -> Reason:
    """The image is on its way: not a fault, however long it takes."""
    where = f" to the node {node}" if node else ""
    return Reason(
        Stage.PULLING, "pulling", f"The image {image} is being pulled{where}.",
        "Nothing to do. A large image takes minutes the first time on each node.",
    )  # fmt: skip


def _classified(text: str, image: str) -> tuple[str, re.Pattern[str], str, str, bool] | None:
    words = text.replace(image, "")  # it may be called "not-found:401"
    return next((cause for cause in _CAUSES if cause[1].search(words)), None)


def _is_about_pulling(event: Mapping[str, Any]) -> bool:
    reason, text = event.get("reason"), text_of(event)
    # "Failed" is also the reason of "Error: ImagePullBackOff" and of a container that cannot be started.
    return reason in ("Pulling", "Pulled", "BackOff") or (reason == "Failed" and "pull image" in text)
