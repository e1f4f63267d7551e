from pathlib import Path

import pytest

from jupyter_mlops.config import MLOps, load_config, without_credentials
from jupyter_mlops.errors import ConfigError, ProfileError
from jupyter_mlops.profile import parse_bytes


def write_config(text: str) -> None:
    import os

    directory = Path(os.environ["JUPYTER_CONFIG_DIR"])
    directory.mkdir(parents=True)
    (directory / "jupyter_mlops_config.py").write_text(text)


def test_profiles_come_from_the_configuration_file_with_units() -> None:
    write_config("c.MLOps.profiles = {'big': {'memory': '8Gi', 'cpus': 2, 'gpus': 1}}")
    profile = load_config().profile("big")
    assert (profile.memory, profile.cpus, profile.gpus) == (8 * 2**30, 2, 1)


def test_an_option_changes_a_field_of_the_profile_and_leaves_the_rest() -> None:
    write_config("c.MLOps.profiles = {'big': {'memory': '8Gi', 'cpus': 2}}")
    profile = load_config().profile("big", memory="500M", gpus=None)
    assert (profile.memory, profile.cpus) == (500_000_000, 2)


def test_an_unknown_profile_names_the_nearest() -> None:
    with pytest.raises(ProfileError) as caught:
        load_config().profile("lokal")
    assert "Did you mean 'local'?" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("c.MLOps.profiles = {'x': {'gpu': 1}}", "unknown field 'gpu'"),
        ("c.MLOps.profiles = {'x': {'memory': 'lots'}}", "wrong memory"),
        ("c.MLOps.profiles = {'x': {'cpus': 0}}", "wrong cpus"),
    ],
)
def test_a_wrong_profile_is_told_by_name(text: str, sentence: str) -> None:
    write_config(text)
    with pytest.raises(ProfileError, match=sentence):
        load_config().profile("x")


def test_a_configuration_file_that_fails_is_named() -> None:
    write_config("c.MLOps.nothing = 1/0")
    with pytest.raises(ConfigError, match=r"jupyter_mlops_config\.py.*ZeroDivisionError"):
        load_config()


def test_a_setting_of_the_wrong_type_is_told() -> None:
    write_config("c.MLOps.seed_of_doubt = 1\nc.MLOps.interrupt_grace = 'long'")
    with pytest.raises(ConfigError, match="interrupt_grace"):
        load_config()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://ann:pw@mlflow.example:5000/a?token=x#y", "https://mlflow.example:5000/a"),
        ("sqlite:////home/me/a%20b.db", "sqlite:////home/me/a%20b.db"),
        ("postgresql://ann:p%40w@db/mlops", "postgresql://db/mlops"),
    ],
)
def test_credentials_are_not_shown(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


@pytest.mark.parametrize(
    ("text", "count"), [("4Gi", 2**32), ("1.5G", 1_500_000_000), ("512Mi", 2**29), ("123", 123), ("2GB", 2 * 10**9)]
)
def test_memory_is_written_as_in_kubernetes(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "4 apples", "-1Gi", "0x10", "1e3Gi", "100m"])
def test_what_is_no_amount_of_memory_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="amount of memory"):
        parse_bytes(text)


def test_a_run_is_sought_in_the_mlflow_that_it_was_recorded_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ann:pw@mlflow.example/")
    config = MLOps()
    assert config.mlflow_uri_of("https://mlflow.example/") == "https://ann:pw@mlflow.example/"
    assert config.mlflow_uri_of("sqlite:////data/mlflow.db") == "sqlite:////data/mlflow.db"
