from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from jupyter_mlops.config import MLOps
from jupyter_mlops.errors import ClusterError, NotFoundError, UsageError
from jupyter_mlops.warm import known
from jupyter_mlops.worker import birth_of

from ..test_cluster_spec import cluster


def test_what_is_remembered_is_for_its_owner_alone_and_can_be_forgotten() -> None:
    config = MLOps()
    found = known.remember(config, cluster(), {"tls.key": "secret"})
    assert (found.directory.stat().st_mode & 0o777, (found.directory / "tls.key").stat().st_mode & 0o777) == (
        0o700, 0o600,
    )  # fmt: skip
    assert known.all_known(config) == [found]
    assert known.known(config, "gpus").spec == cluster(create_time=found.spec.create_time)
    found.forget()
    assert known.all_known(config) == []


def test_a_name_is_given_once() -> None:
    known.remember(MLOps(), cluster(), {})
    with pytest.raises(UsageError, match="There is a cluster 'gpus' already"):
        known.remember(MLOps(), cluster(), {})


def test_a_directory_that_was_left_empty_does_not_keep_the_name() -> None:
    config = MLOps()
    (config.data_path / known.CLUSTERS / "gpus").mkdir(parents=True)
    known.remember(config, cluster(), {})
    assert [each.spec.name for each in known.all_known(config)] == ["gpus"]


def test_what_cannot_be_written_whole_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    config, write = MLOps(), known.write_private

    def full(path: Path, content: bytes) -> None:
        if path.name == known.SPEC_FILE:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(known, "write_private", full)
        with pytest.raises(ClusterError, match=r"cannot be written: No space left on device") as error:
            known.remember(config, cluster(), {"tls.key": "secret"})
    assert error.value.code == "disk_full"
    assert list(config.data_path.rglob("tls.key")) == []
    known.remember(config, cluster(), {})


def test_an_unknown_name_lists_the_nearest() -> None:
    known.remember(MLOps(), cluster(), {})
    with pytest.raises(NotFoundError) as error:
        known.known(MLOps(), "gpu")
    assert "Did you mean 'gpus'?" in error.value.hint


def test_its_place_in_kubernetes_is_kept() -> None:
    found = known.remember(MLOps(), cluster(), {})
    assert (found.place, found.head) == (None, None)
    place = known.Place("prod", "https://k8s", "team-a", "gpus-0f9a3c5e7b21", "uid")
    found.note(place)
    assert found.place == place


def test_a_damaged_directory_is_passed_over() -> None:
    found = known.remember(MLOps(), cluster(), {})
    (found.directory / "cluster.json").write_text("{")
    assert known.all_known(MLOps()) == []


def test_a_process_lives_until_another_has_its_number() -> None:
    here = {"pid": os.getpid(), "host": socket.gethostname()}
    assert known.is_alive({**here, "born": birth_of(os.getpid())})
    assert not known.is_alive({**here, "born": "another boot 1"})
    assert known.is_alive({"pid": 1, "born": "", "host": "elsewhere"})


def test_the_last_words_of_a_head_are_its_last_line(tmp_path: Path) -> None:
    found = known.Known(cluster(), tmp_path)
    assert found.last_words() == ""
    (tmp_path / known.LOG_FILE).write_text("Traceback\n  no room \n\n")
    assert found.last_words() == "no room"
