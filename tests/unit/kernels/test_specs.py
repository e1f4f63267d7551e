import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyter_client.kernelspec import KernelSpecManager

from jupyter_mlops.config import MLOps
from jupyter_mlops.errors import ConfigError, NotFoundError, ProfileError
from jupyter_mlops.kernels import specs
from jupyter_mlops.profile import Profile


def profile(name: str = "gpu-large", **fields: object) -> Profile:
    return Profile(name=name, runner="kubernetes", image="a/b:1", **fields)


def test_a_kernelspec_names_the_provisioner_and_the_profile_and_jupyter_finds_it() -> None:
    made = specs.install(profile(gpus=2), sys_prefix=False)
    assert (made.name, made.display_name) == ("mlops-gpu-large", "Python on gpu-large (2 GPUs, Kubernetes)")
    found = KernelSpecManager().get_kernel_spec("mlops-gpu-large")
    assert found.metadata["kernel_provisioner"] == {
        "provisioner_name": "mlops-kubernetes", "config": {"profile": "gpu-large"}
    }  # fmt: skip
    assert found.interrupt_mode == "message"
    assert specs.installed() == [made]


def test_one_gpu_of_several_pods_is_what_a_kernel_gets() -> None:
    assert "(1 GPU, Kubernetes)" in specs.kernel_spec(profile(gpus=4, pods=4))["display_name"]
    assert "(Kubernetes)" in specs.kernel_spec(profile())["display_name"]


@given(st.text(min_size=1, max_size=63))
def test_any_name_of_a_profile_becomes_a_name_that_jupyter_takes(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9._-]+", specs.kernel_name(name))


def test_names_that_look_alike_are_two_kernelspecs() -> None:
    assert len({specs.kernel_name(name) for name in ("GPU", "gpu", "g p u", "g-p-u", "ü", "ö")}) == 6


def test_installing_again_writes_it_anew_and_another_ones_kernelspec_is_left_alone() -> None:
    made = specs.install(profile(), sys_prefix=False)
    (made.directory / "kernel.json").write_text(json.dumps({"argv": ["r"], "display_name": "R", "language": "r"}))
    with pytest.raises(ConfigError, match="not ours"):
        specs.install(profile(), sys_prefix=False)
    assert specs.installed() == []


def test_removing_takes_only_ours(tmp_path: Path) -> None:
    one, two = (specs.install(profile(name), sys_prefix=False) for name in ("one", "two"))
    other = one.directory.parent / "other"
    other.mkdir()
    (other / "kernel.json").write_text(json.dumps({"argv": ["r"], "display_name": "R", "language": "r"}))
    with pytest.raises(NotFoundError, match="no kernelspec 'other' of ours"):
        specs.remove(("other",))
    assert specs.remove(("one",)) == [one]
    assert specs.remove(()) == [two]
    assert other.exists()


def test_only_profiles_on_kubernetes_have_kernels_in_pods() -> None:
    config = MLOps()
    with pytest.raises(ProfileError, match="No profile is on Kubernetes"):
        specs.chosen_profiles(config, ())
    config.profiles = {"cluster": {"runner": "kubernetes", "image": "a/b:1"}, "small": {"cpus": 1}}
    assert [each.name for each in specs.chosen_profiles(config, ())] == ["cluster"]
    with pytest.raises(ProfileError, match="'small' is not on Kubernetes"):
        specs.chosen_profiles(config, ("small",))


def test_the_template_for_others_is_what_is_installed() -> None:
    template = Path(__file__).parents[3] / "kernels" / "kernel.json"
    assert json.loads(template.read_text()) == specs.kernel_spec(profile("PROFILE"))
