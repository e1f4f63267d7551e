"""What a person reads when a builder failed. The outputs are those of the real programs, cut to the lines that tell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlops.image.diagnosis import explain

CASES = {
    "a version that no index has": (
        """
ERROR: Could not find a version that satisfies the requirement click==99.1 (from versions: 8.4.2, 8.5.0, 8.5.1)
ERROR: No matching distribution found for click==99.1
Error: building at STEP "RUN set -eu": exit status 1
""",
        "The package click==99.1 cannot be installed",
        "--without click",
    ),
    "a version of another index": (
        "ERROR: No matching distribution found for torch==2.3.0+cu121",
        "The package torch==2.3.0+cu121 cannot be installed",
        "global.extra-index-url",
    ),
    "a Python that is too old for a package": (
        """
ERROR: Ignored the following versions that require a different python version: 1.18.0 Requires-Python >=3.12; \
4.1.2 Requires-Python >=3.11.5; 4.1.3 Requires-Python >=3.11.5; 9.11.0 Requires-Python >=3.12
ERROR: Could not find a version that satisfies the requirement soupsieve==4.1.3 (from versions: 3.0, 3.0.1)
ERROR: No matching distribution found for soupsieve==4.1.3
""",
        "The package soupsieve==4.1.3 needs Python >=3.11.5, which the base image's is not.",
        "--base IMAGE",
    ),
    "a package that must be compiled": (
        """
      error: command 'gcc' failed: No such file or directory
      [end of output]
  note: This error originates from a subprocess, and is likely not a problem with pip.
  ERROR: Failed building wheel for bad-one
Failed to build bad-one
error: failed-wheel-build-for-install
""",
        "The package bad-one has no wheel",
        "APT_BUILD_PACKAGES=build-essential",
    ),
    "packages that contradict each other": (
        """
ERROR: Cannot install distributed==2023.2.0 because these package versions have conflicting dependencies.

The conflict is caused by:
    distributed 2023.2.0 depends on dask==2023.2.0
    The user requested (constraint) dask==2023.1.0

Additionally, some packages in these conflicts have no matching distributions available for your environment:
    dask

ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/en/latest/topics/dependency-resolution/
""",
        "The user requested (constraint) dask==2023.1.0",
        "jupyter-mlops[gpu]",
    ),
    "a certificate of a company": (
        """
WARNING: Retrying (Retry(total=0)) after connection broken by 'SSLError(SSLCertVerificationError(1, '[SSL: \
CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate in certificate chain'))': /simple/x/
ERROR: No matching distribution found for x==1
""",
        "does not trust the certificate",
        "global.cert",
    ),
    "an index that wants a password": (
        "ERROR: HTTP error 401 while getting https://pypi.example.org/simple/x/",
        "HTTP 401",
        "secret",
    ),
    "a base with another Python": (
        """
[1/6] STEP 5/6: RUN set -eu; echo "jupyter-mlops: the base image has Python ${found}, and the environment has" >&2; fi
jupyter-mlops: the base image has Python 3.12, and the environment has Python 3.11
subprocess exited with status 1
Error: building at STEP "RUN set -eu; echo "jupyter-mlops: the base image has Python ${found}, and the": exit status 1
""",
        "The base image has Python 3.12, and the environment has Python 3.11.",
        "--base",
    ),
    "a base that is no Debian, told by docker": (
        "#7 0.312 jupyter-mlops: the base image has no apt-get, and these are missing: python3-venv",
        "The base image is not made from Debian or Ubuntu, and has no python3-venv.",
        "--base",
    ),
    "labels that would not be true": (
        "jupyter-mlops: not the versions that the arguments tell: dask 2025.9.0",
        "dask 2025.9.0",
        "as it is now",
    ),
    "a full disk": (
        'Error: committing container for step: copying layers: write /var/tmp/x: no space left on device',
        "The disk is full",
        "prune",
    ),
    "a registry that is not known": (
        'Error: initializing source docker://nonexistent.invalid/x:1: pinging container registry nonexistent.invalid: Get '
        '"https://nonexistent.invalid/v2/": dial tcp: lookup nonexistent.invalid on 192.0.2.53:53: no such host',
        "The host nonexistent.invalid is not known on this network.",
        "HTTPS_PROXY",
    ),
    "a registry that is down": (
        'Error: initializing source docker://127.0.0.1:9/x/y:1: pinging container registry 127.0.0.1:9: Get '
        '"https://127.0.0.1:9/v2/": dial tcp 127.0.0.1:9: connect: connection refused',
        "does not answer",
        "address",
    ),
    "nobody is logged in": (
        "Error: writing blob: initiating layer upload to /v2/x/blobs/uploads/ in r: unauthorized: authentication required",
        "The registry refused",
        "Log in: buildah login r.example.org",
    ),
    "docker without a daemon": (
        "ERROR: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        "Docker daemon does not answer.",
        "--builder buildah",
    ),
    "an image that was not built": (
        'Error: pushing image "localhost/none:1" to "docker://localhost/none:1": localhost/none:1: image not known',
        "The builder has no such image.",
        "same builder",
    ),
    "a Debian package that does not exist": (
        "E: Unable to locate package libnope\nError: building at STEP: exit status 100",
        "has no package libnope",
        "--base",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_known_failure_is_one_sentence_with_the_next_step(case: str) -> None:
    output, sentence, step = CASES[case]
    error = explain(output.strip().splitlines(), doing="built", login="buildah login r.example.org")
    assert sentence in error.message
    assert step in error.hint
    assert error.code == "image"


def test_an_unknown_failure_shows_the_last_lines_without_colours() -> None:
    output = [*(f"step {number}" for number in range(50)), "", "\x1b[31mBang\x1b[0m\x07 <b>"]
    error = explain(output, doing="pushed")
    assert error.message.startswith("The image could not be pushed")
    assert error.message.endswith("\nBang <b>")
    assert "step 40" not in error.message


@given(st.lists(st.text(max_size=60), max_size=8))
def test_no_output_is_too_strange(output: list[str]) -> None:
    error = explain(output, doing="built")
    assert "\x1b" not in error.message


def test_braces_of_an_output_are_text() -> None:
    error = explain(["jupyter-mlops: the base image has Python {login} {0}"], doing="built")
    assert error.message == "The base image has Python {login} {0}."
