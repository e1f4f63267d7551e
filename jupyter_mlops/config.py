"""Configuration: traitlets, as Jupyter's users know it, in `jupyter_mlops_config.py` or `.json`.

The files are looked for where Jupyter looks for its own (`jupyter --paths`), the user's over the system's. What
belongs to another tool is read from that tool's own variable (`MLFLOW_TRACKING_URI`, `KUBECONFIG`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from traitlets import Bool, Dict, Float, Integer, List, Unicode
from traitlets.config import Config, Configurable, JSONFileConfigLoader, PyFileConfigLoader
from traitlets.config.loader import ConfigFileNotFound

from .errors import ConfigError, ProfileError, nearest
from .profile import Profile, Toleration

MIB = 2**20


class MLOps(Configurable):  # type: ignore[misc]
    """Settings of jupyter-mlops; set them as `c.MLOps.<name>` in `jupyter_mlops_config.py`."""

    data_dir = Unicode(
        help="Directory for runs, snapshots and the default stores. Default: `mlops` in Jupyter's data directory; "
        "the variable JUPYTER_MLOPS_DATA_DIR overrides both."
    ).tag(config=True)
    tracking_uri = Unicode(
        help="MLflow's address. Default: the variable MLFLOW_TRACKING_URI, else SQLite in `data_dir`."
    ).tag(config=True)
    mlflow_wait = Float(
        20.0, min=0, help="Seconds to wait for an MLflow server that does not answer, before a run is refused."
    ).tag(config=True)
    store_url = Unicode(
        help="SQLAlchemy URL of the store. Default: SQLite in `data_dir`; the variable JUPYTER_MLOPS_STORE_URL "
        "overrides both, so that a password need not stand in a file."
    ).tag(config=True)
    profiles = Dict(
        per_key_traits={},
        help="Profiles by name, each a dict of the fields of a profile: "
        "`c.MLOps.profiles = {'small': {'cpus': 2, 'memory': '4Gi'}}`.",
    ).tag(config=True)
    default_profile = Unicode("local", help="The profile of a run that names none.").tag(config=True)
    snapshot_size_limit = Integer(200 * MIB, min=1, help="Bytes that the files of one snapshot may have together.").tag(
        config=True
    )
    snapshot_exclude = List(
        Unicode(),
        default_value=[".env", ".env.*", "*.pem", "*.key", "id_rsa*", "id_ed25519*", ".netrc", "*kubeconfig*",
                       "*credentials*", "*.p12", "*.pfx", "*.keytab"],
        help="Globs of file names that are never found by themselves for a snapshot, only by --include.",
    ).tag(config=True)  # fmt: skip
    secret_pattern = Unicode(
        r"(?i)(password|passwd|passphrase|secret|tokens?(?![a-z])|api_?key|private_?key|access_?key|credential|connection_?string)",
        help="Regular expression: a variable or parameter whose name it matches holds a secret. The values of such "
        "variables are masked in everything that a run writes; such parameters are refused.",
    ).tag(config=True)
    output_limit = Integer(
        4 * MIB, min=1024, help="Bytes of output that one cell keeps in the executed notebook; the rest goes to a file."
    ).tag(config=True)
    notebook_output_limit = Integer(
        32 * MIB, min=1024, help="Bytes of output that all cells together keep in the executed notebook."
    ).tag(config=True)
    interrupt_grace = Float(
        10.0, min=0, help="Seconds between asking a cell to stop (interrupt) and ending its kernel with its children."
    ).tag(config=True)
    warm_engine_timeout = Float(
        600.0, min=0, help="Seconds that an engine stays ready on this machine after a run has ended: the next run "
        "starts its first cell at once. It holds some 300 MB of memory. 0: none stays. The variable "
        "JUPYTER_MLOPS_WARM_SECONDS wins over it.",
    ).tag(config=True)  # fmt: skip
    resource_interval = Float(2.0, min=0.1, help="Seconds between two looks at memory, GPUs and Dask.").tag(config=True)
    cluster_idle_timeout = Float(
        1800.0, min=1, help="Seconds without a task or a run after which a Dask cluster ends."
    ).tag(config=True)
    cluster_lifetime = Float(
        28800.0, min=1, help="Seconds after which a Dask cluster ends in any case, and its GPUs are free."
    ).tag(config=True)
    system_metrics = Bool(True, help="Log MLflow's system metrics (CPU, memory, GPU, disk) of each run.").tag(
        config=True
    )

    kernel_start_timeout = Float(
        600.0, min=1, help="Seconds that a kernel in a pod may wait for a place and for its image."
    ).tag(config=True)
    kernel_idle_timeout = Float(
        900.0,
        min=30,
        help="Seconds after which a kernel's pod ends by itself when nobody is connected to it (its Jupyter server "
        "was killed, its laptop sleeps) and nothing is executed. While somebody is, it is the server that culls: "
        "`c.MappingKernelManager.cull_idle_timeout`.",
    ).tag(config=True)
    kernel_lifetime = Integer(
        86400, min=60, help="Seconds after which the pod of a kernel is ended, whatever it does."
    ).tag(config=True)  # fmt: skip

    scheduler_workers = Integer(
        4, min=1, max=100, help="How many slots one process of the job scheduler works on at once."
    ).tag(config=True)
    scheduler_lease = Float(
        30.0, min=3, help="Seconds after which the slots of a killed process of the job scheduler are taken by another."
    ).tag(config=True)
    scheduler_owner_limit = Integer(
        0, min=0, help="How many slots of jobs of one owner may run at once. 0: any number."
    ).tag(config=True)
    scheduler_profile_limits = Dict(
        value_trait=Integer(min=1),
        help="How many slots of jobs may run at once on a profile, by its name: `{'gpu': 2}`. Others: any number.",
    ).tag(config=True)

    promotion_policy = Dict(
        per_key_traits={},
        help="What every promotion of a job must pass beside its own gates, by a glob of the job's name: "
        "`{'*': {'git': 'known'}, 'prod-*': {'approvals': 1, 'git': 'clean', 'image_digest': True}}`. All rules that "
        "fit are asked for. Of a pattern in several configuration files the system's rule wins over the user's.",
    ).tag(config=True)

    @property
    def data_path(self) -> Path:
        """The data directory, made private to the user if it was not there."""
        chosen = os.environ.get("JUPYTER_MLOPS_DATA_DIR") or self.data_dir
        if chosen:
            path = Path(chosen).expanduser().absolute()
        else:
            from jupyter_core.paths import jupyter_data_dir

            path = Path(jupyter_data_dir()) / "mlops"
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigError(
                f"The data directory {path} cannot be made: {error.strerror or error}.",
                hint="Set JUPYTER_MLOPS_DATA_DIR to a directory that you may write to.",
            ) from error
        return path

    def run_dir(self, run_id: str) -> Path:
        """Where a local run keeps its files; not made here."""
        return self.data_path / "runs" / run_id

    def mlflow_uri(self) -> str:
        """MLflow's address as it is used, credentials included: never show or store it, see `mlflow_uri_shown`."""
        return os.environ.get("MLFLOW_TRACKING_URI") or self.tracking_uri or f"sqlite:///{self.data_path / 'mlflow.db'}"

    def mlflow_uri_shown(self) -> str:
        """MLflow's address without credentials."""
        return without_credentials(self.mlflow_uri())

    def mlflow_uri_of(self, recorded: str) -> str:
        """The address of the MLflow that a run was recorded in, which today's settings need not name any more.

        Args:
            recorded: The run's `tracking_uri`, which holds no credentials.

        Returns:
            Today's address with its credentials if it is the same place; else the recorded one, to which MLflow's own
            variables (`MLFLOW_TRACKING_USERNAME`, …) still apply.
        """
        return self.mlflow_uri() if recorded == self.mlflow_uri_shown() else recorded

    def store_uri(self) -> str:
        """SQLAlchemy URL of the store, credentials included: never show it."""
        return os.environ.get("JUPYTER_MLOPS_STORE_URL") or self.store_url or f"sqlite:///{self.data_path / 'store.db'}"

    def warm_seconds(self) -> float:
        """Seconds that an engine waits for the next run on this machine; 0: none does.

        Raises:
            ConfigError: the variable is no such number.
        """
        told = os.environ.get("JUPYTER_MLOPS_WARM_SECONDS", "")
        try:
            seconds = float(told) if told else self.warm_engine_timeout
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds < float("inf"):
            raise ConfigError(
                f"The variable JUPYTER_MLOPS_WARM_SECONDS is {told!r}, and not a number of seconds.",
                hint="0 keeps no engine ready.",
            )
        return seconds

    def all_profiles(self) -> dict[str, Profile]:
        """Every profile on offer, the built-in `local` (this machine, whole) among them.

        Raises:
            ProfileError: one of the configuration is wrong.
        """
        found = {"local": Profile(name="local", description="This machine")}
        for name, fields in self.profiles.items():
            found[name] = _profile(name, dict(fields))
        return found

    def profile(self, name: str | None = None, **changes: Any) -> Profile:
        """The profile of that name (default: `default_profile`) with some fields changed.

        Args:
            name: One of `all_profiles`.
            **changes: Fields to set; None leaves a field as it is.

        Raises:
            ProfileError: no such profile, or a change does not fit.
        """
        known = self.all_profiles()
        name = name or self.default_profile
        if name not in known:
            raise ProfileError(f"There is no profile '{name}'.", hint=nearest(name, known, noun="profile"))
        changes = {key: value for key, value in changes.items() if value is not None}
        return _profile(name, {**known[name].model_dump(exclude={"name"}), **changes}) if changes else known[name]


def _profile(name: str, fields: dict[str, Any]) -> Profile:
    from pydantic import ValidationError

    unknown = sorted(set(fields) - set(Profile.model_fields))
    if unknown:
        raise ProfileError(
            f"The profile '{name}' has an unknown field '{unknown[0]}'.",
            hint=nearest(unknown[0], Profile.model_fields, noun="field"),
        )
    try:
        return Profile(**{**fields, "name": name})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ProfileError(
                f"The profile '{name}' has an unknown field '{field}'.",
                hint=nearest(str(first["loc"][-1]), Toleration.model_fields, noun="field"),
            ) from None
        why = first["msg"].removeprefix("Value error, ")
        raise ProfileError(f"The profile '{name}' has a wrong {field}: {why}.") from None


def without_credentials(url: str) -> str:
    """The URL without user name, password, query and fragment values that could hold a token.

    SQLite and file URLs hold none and come back as they are.
    """
    parts = urlsplit(url)
    if not parts.netloc:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def load_config(overrides: Config | None = None) -> MLOps:
    """The settings from the configuration files, the user's over the system's, `overrides` over both.

    Raises:
        ConfigError: a file cannot be read, or a setting has a wrong type.
    """
    from jupyter_core.paths import jupyter_config_path

    merged = Config()
    policy: dict[str, Any] = {}
    for directory in reversed(jupyter_config_path()):
        for loader_class, suffix in ((PyFileConfigLoader, "py"), (JSONFileConfigLoader, "json")):
            filename = f"jupyter_mlops_config.{suffix}"
            try:
                loaded = loader_class(filename, path=directory).load_config()
                merged.merge(loaded)
            except ConfigFileNotFound:
                continue
            except Exception as error:
                raise ConfigError(
                    f"The configuration file {Path(directory) / filename} fails: {type(error).__name__}: {error}."
                ) from error
            # The other way round than all else: whom a policy binds does not take it back in a file of their own.
            rules = loaded.MLOps.get("promotion_policy") if "MLOps" in loaded else None
            if isinstance(rules, dict):
                policy = {**rules, **policy}
    if policy:
        merged.MLOps.promotion_policy = policy
    if overrides is not None:
        merged.merge(overrides)
    from traitlets import TraitError

    try:
        return MLOps(config=merged)
    except TraitError as error:
        raise ConfigError(
            f"A setting is wrong: {error}", hint="See `jupyter mlops config` for all settings."
        ) from error
