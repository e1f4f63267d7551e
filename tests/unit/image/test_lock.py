"""What of an environment goes into an image."""

from __future__ import annotations

import pytest

from jupyter_mlops.errors import UsageError
from jupyter_mlops.image.lock import contents_of, default_base, this_product
from jupyter_mlops.snapshot.environment import Environment, read_environment

from .environments import WHOLE, environment, package, product


def test_a_whole_lock_is_taken_as_it_is() -> None:
    contents = contents_of(environment(*WHOLE), product=product())
    assert contents.pinned == tuple(dist.requirement for dist in WHOLE)
    assert (contents.additions, contents.projects, contents.notes, contents.whole) == ((), (), (), True)
    assert contents.versions == {
        "python": "3.11", "jupyter-mlops": "0.3.0", "cloudpickle": "3.1.0", "mlflow": "3.6.1",
        "distributed": "2025.9.0", "dask": "2025.9.0",
    }  # fmt: skip


def test_an_environment_without_the_product_gets_it_in_the_versions_of_this_one() -> None:
    contents = contents_of(environment(package("numpy"), python="3.12.1"), product=product())
    assert contents.pinned == ("numpy==1.0", "jupyter-mlops==0.3.0")
    assert contents.additions == ("cloudpickle==3.1.1", "dask[distributed]==2025.9.1", "mlflow==3.6.0")
    assert contents.versions["dask"] == contents.versions["distributed"] == "2025.9.1"
    assert contents.versions["python"] == "3.12"
    assert any("has no jupyter-mlops" in note for note in contents.notes)


def test_distributed_is_added_in_the_version_of_the_locks_dask() -> None:
    packages = [dist for dist in WHOLE if dist.name != "distributed"]
    contents = contents_of(environment(*packages), product=product())
    assert contents.additions == ("distributed==2025.9.0",)
    assert contents.versions["distributed"] == "2025.9.0"


def test_a_package_from_a_directory_becomes_a_project_and_no_line_of_the_lock() -> None:
    ours = package("ours", "2.0", "local")
    contents = contents_of(environment(*WHOLE, ours), product=product())
    assert contents.projects == (ours,)
    assert not any("ours" in line for line in contents.pinned)


def test_a_product_from_a_directory_is_a_project_also_where_the_environment_lacks_it() -> None:
    ours = product(distribution=package("jupyter-mlops", "0.3.0", "local"))
    contents = contents_of(environment(package("numpy")), product=ours)
    assert [dist.name for dist in contents.projects] == ["jupyter-mlops"]
    assert "jupyter-mlops==0.3.0" not in contents.pinned


def test_for_gpus_the_extra_is_added_unless_the_lock_has_it() -> None:
    contents = contents_of(environment(*WHOLE), product=product(), gpu=True)
    assert contents.additions == ("dask-cuda[cu12]>=24.8", "nvidia-ml-py>=12.535")
    contents = contents_of(environment(*WHOLE, package("dask-cuda", "25.10.0")), product=product(), gpu=True)
    assert contents.additions == ("nvidia-ml-py>=12.535",)


def test_for_gpus_the_cuda_bindings_of_the_locks_cuda_are_there() -> None:
    # dask-cuda from 26 on imports cuda.core, which imports cuda.bindings, which only an extra brings.
    bare = (*WHOLE, package("dask-cuda", "26.10.0"), package("nvidia-ml-py"), package("cuda-core", "1.2.2"))
    assert contents_of(environment(*bare), product=product(), gpu=True).additions == ("cuda-core[cu12]==1.2.2",)
    newer = environment(*bare, package("cupy-cuda13x"))
    assert contents_of(newer, product=product(), gpu=True).additions == ("cuda-core[cu13]==1.2.2",)
    whole = environment(*bare, package("cuda-bindings"))
    assert contents_of(whole, product=product(), gpu=True).additions == ()
    assert contents_of(environment(*bare), product=product()).additions == ()


def test_packages_are_left_out_when_asked_by_any_spelling() -> None:
    contents = contents_of(
        environment(*WHOLE, package("my-lib", source="local")), product=product(), without=["My_Lib"]
    )
    assert contents.projects == ()
    assert contents.notes == ("Left out, as asked: my-lib.",)


@pytest.mark.parametrize(("name", "says"), [("nunpy", "no such package"), ("jupyter_mlops", "without jupyter-mlops")])
def test_what_cannot_be_left_out_is_refused(name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        contents_of(environment(*WHOLE), product=product(), without=[name])


def test_a_lock_of_another_system_loses_what_only_that_has_and_pip_looks_for_the_rest() -> None:
    packages = (*WHOLE, package("appnope"), package("pyobjc-core"), package("colorama"))
    contents = contents_of(environment(*packages, platform="macosx-14.0-arm64"), product=product())
    assert "appnope==1.0" not in contents.pinned
    assert "pyobjc-core==1.0" not in contents.pinned
    assert "colorama==1.0" in contents.pinned
    assert not contents.whole
    assert "appnope, pyobjc-core stay out" in contents.notes[0]


def test_what_an_interrupted_installation_left_is_left_out_with_a_note() -> None:
    broken = package("-andas", "1", "local", "# -andas 1: unreadable")
    contents = contents_of(environment(*WHOLE, broken), product=product())
    assert contents.projects == ()
    assert contents.notes == ("Left out, because what is installed of them cannot be read: -andas.",)


def test_packages_bring_the_debian_packages_that_they_need() -> None:
    packages = (*WHOLE, package("lightgbm"), package("ours", source="vcs"))
    contents = contents_of(environment(*packages), product=product())
    assert contents.libraries == ("libgomp1",)
    assert contents.build_packages == ("ca-certificates", "git")


def test_another_implementation_is_refused() -> None:
    pypy = Environment(python="3.10.14", implementation="PyPy", platform="linux-x86_64")
    with pytest.raises(UsageError, match="this environment is PyPy"):
        contents_of(pypy, product=product())


@pytest.mark.parametrize(
    ("python", "gpu", "lock", "base"),
    [
        ("3.13.1", False, [], "docker.io/library/python:3.13-slim-bookworm"),
        ("3.12.4", True, [], "docker.io/nvidia/cuda:12.6.3-runtime-ubuntu24.04"),
        ("3.10.4", True, [], "docker.io/nvidia/cuda:12.6.3-runtime-ubuntu22.04"),
        # The CUDA libraries are in the lock: any Python will do.
        ("3.13.1", True, ["nvidia-cuda-runtime-cu12"], "docker.io/library/python:3.13-slim-bookworm"),
    ],
)
def test_the_base_has_the_environments_python(python: str, gpu: bool, lock: list[str], base: str) -> None:
    packages = [*WHOLE, *(package(name) for name in lock)]
    assert default_base(contents_of(environment(*packages, python=python), product=product(), gpu=gpu)) == base


@pytest.mark.parametrize(
    ("python", "lock", "says"),
    [("3.11.9", [], r"CUDA 12 and Python 3\.11"), ("3.12.1", ["cudf-cu13"], r"CUDA 13 and Python 3\.12")],
)
def test_a_gpu_image_that_no_known_base_fits_asks_for_one(python: str, lock: list[str], says: str) -> None:
    packages = [*WHOLE, *(package(name) for name in lock)]
    contents = contents_of(environment(*packages, python=python), product=product(), gpu=True)
    with pytest.raises(UsageError, match=says) as refused:
        default_base(contents)
    assert "--base" in refused.value.hint


def test_the_digest_is_of_what_is_installed_from_indexes() -> None:
    one = contents_of(environment(*WHOLE), product=product())
    same = contents_of(environment(*WHOLE, package("ours", source="local")), product=product())
    other = contents_of(environment(*WHOLE[:-1], package("numpy", "2.3.0")), product=product())
    assert one.digest == same.digest != other.digest


def test_the_product_of_this_interpreter_is_known() -> None:
    found = this_product(read_environment()[0])
    assert found.distribution.name == "jupyter-mlops"
    assert any(requirement.startswith("mlflow") for requirement in found.requires)
    assert {"dask", "distributed", "mlflow", "cloudpickle"} <= set(found.versions)
    with pytest.raises(UsageError, match="not installed here"):
        this_product(environment(package("numpy")))
