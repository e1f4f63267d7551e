from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jupyter_mlops.config import MLOps
from jupyter_mlops.errors import SnapshotError
from jupyter_mlops.snapshot.files import find_root
from jupyter_mlops.snapshot.tree import Tree, matches

from .conftest import git, paths, shipped

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_notebook_that_names_nothing_ships_alone(put: Callable, build: Callable) -> None:
    put("unrelated.csv")
    assert [file.path for file in build("x = 1").files] == ["train.ipynb"]


def test_outside_git_the_root_is_the_notebooks_directory(project: Path, put: Callable) -> None:
    put("deep/nb.ipynb")
    assert find_root(project / "deep/nb.ipynb") == project / "deep"


def test_in_git_the_root_is_the_top_level(project: Path, put: Callable, build: Callable) -> None:
    git(project, "init", "-q")
    put("notebooks/x")
    assert build("1", at="notebooks/nb.ipynb").notebook == "notebooks/nb.ipynb"


def test_a_home_under_git_is_no_project(clean_environment: Path) -> None:
    git(clean_environment, "init", "-q")
    (clean_environment / "work").mkdir()
    assert find_root(clean_environment / "work" / "nb.ipynb") == clean_environment / "work"


def test_a_directory_that_does_not_exist_is_refused(project: Path) -> None:
    with pytest.raises(SnapshotError, match="does not exist"):
        find_root(project / "gone" / "nb.ipynb")


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ('pd.read_csv("data/train.csv")', ["data/train.csv"]),
        ('pd.read_csv("./data/train.csv")', ["data/train.csv"]),
        ('open("labels.txt")', ["labels.txt"]),
        ('path = "labels.txt"', ["labels.txt"]),
        ('def load(path="data/train.csv"): pass', ["data/train.csv"]),
        ('def load(*, path="data/train.csv"): pass', ["data/train.csv"]),
        ('pd.read_csv(Path("data") / "train.csv")', ["data/train.csv"]),
        ('DATA = Path("data")\npd.read_csv(DATA / "train.csv")', ["data/train.csv"]),
        ('DATA = "data"\npd.read_csv(f"{DATA}/train.csv")', ["data/train.csv"]),
        ('DATA = "data"\npd.read_csv(DATA + "/train.csv")', ["data/train.csv"]),
        ('os.path.join("data", "train.csv")', ["data/train.csv"]),
        ('Path("data").joinpath("train.csv")', ["data/train.csv"]),
        ('Path.cwd() / "data" / "train.csv"', ["data/train.csv"]),
        ('where() / "data" / "train.csv"', ["data/train.csv"]),
        ('[pd.read_csv(f"data/{part}.csv") for part in parts]', ["data/test.csv", "data/train.csv"]),
        ('glob.glob("data/*.csv")', ["data/test.csv", "data/train.csv"]),
        ('Path("data").glob("t*n.csv")', ["data/train.csv"]),
        ('ImageFolder("data")', ["data/notes.md", "data/test.csv", "data/train.csv"]),
        ('os.listdir("data/")', ["data/notes.md", "data/test.csv", "data/train.csv"]),
        ('!head data/train.csv', ["data/train.csv"]),
        ('!tool --in=data/train.csv', ["data/train.csv"]),
        ('%pip install -r labels.txt', ["labels.txt"]),
        ('%time f = pd.read_csv("data/train.csv")', ["data/train.csv"]),
        ('%%time\npd.read_csv("data/train.csv")', ["data/train.csv"]),
        ('lines = !cat labels.txt', ["labels.txt"]),
        ("""print(f"{open('labels.txt').read()}")""", ["labels.txt"]),
        ("""print("see " + open('labels.txt').read())""", ["labels.txt"]),
        ('open("Makefile")', ["Makefile"]),
        # not meant as paths, or only written
        ('frame["data"]', []),
        ('frame["a"]', []),
        ('frame.groupby("data")', []),
        ('"""See data/train.csv"""', []),
        ('"""labels.txt"""', []),
        ('frame.to_csv("labels.txt")', []),
        ('plt.savefig("data/train.csv")', []),
        ('open("labels.txt", "w")', []),
        ('Path("data").mkdir(exist_ok=True)', []),
        ('print(".", "..", "", "/", "./", "*", "**", "[a-z]+", "**/*")', []),
        ('"https://example.org/labels.txt"', []),
        ('%%bash\ncat labels.txt', []),
        ('x = "\\x00labels.txt"', []),
    ],
)  # fmt: skip
def test_what_code_names_ships(code: str, found: list[str], put: Callable, build: Callable) -> None:
    for name in ("data/train.csv", "data/test.csv", "data/notes.md", "labels.txt", "Makefile", "a"):
        put(name)
    snapshot = build(code)
    assert paths(snapshot) == found
    assert set(shipped(snapshot).values()) <= {"literal"}


def test_a_name_of_an_earlier_cell_is_known_in_a_later_one(put: Callable, build: Callable) -> None:
    put("data/train.csv")
    put("data/huge.bin")
    assert paths(build('ROOT = Path("data")', 'x = read(ROOT / "train.csv")')) == ["data/train.csv"]


def test_a_directory_that_is_used_whole_ships_whole(put: Callable, build: Callable) -> None:
    put("data/a/one.csv")
    put("data/two.csv")
    assert paths(build('DATA = Path("data")\nload(DATA)')) == ["data/a/one.csv", "data/two.csv"]


def test_strings_that_are_huge_or_no_text_do_no_harm(put: Callable, build: Callable) -> None:
    put("labels.txt")
    cells = [
        'x = "' + "y" * 3_000_000 + '"',
        'x = "a\\x00b"',
        r'x = "\ud800.csv"',
        'x = "' + "a/" * 900 + '"',
        "a = 'aa/b'\n" + "a = a + a\n" * 200,
        "x = " + "+".join(["'a'"] * 2000),
        'open("labels.txt")',
    ]
    assert paths(build(*cells)) == ["labels.txt"]


@pytest.mark.parametrize("code", ["(" * 500, "def f(:", "run other.py please", "\x00", "x = '''"])
def test_a_cell_that_is_no_python_is_passed_over_and_told(code: str, put: Callable, build: Callable) -> None:
    put("labels.txt")
    snapshot = build("1", code, 'open("labels.txt")')
    assert paths(snapshot) == ["labels.txt"]
    assert any(warning.startswith("Cell 2:") for warning in snapshot.warnings)


def test_a_notebook_in_another_language_is_told_to_declare_its_files(put: Callable, build: Callable) -> None:
    put("labels.txt")
    snapshot = build('read.csv("labels.txt")', language="R")
    assert paths(snapshot) == []
    assert any("--include" in warning for warning in snapshot.warnings)


# Imports


def test_an_import_ships_the_module_and_what_it_imports(put: Callable, build: Callable) -> None:
    put("model.py", "import layers\n")
    put("layers.py", "import numpy, json\n")
    put("unused.py")
    assert shipped(build("import model")) == {"model.py": "import", "layers.py": "import"}


def test_a_package_ships_its_python_files_and_the_data_that_they_name(put: Callable, build: Callable) -> None:
    put("pkg/__init__.py")
    put("pkg/deep/__init__.py", "from .. import base\nfrom ...nowhere import x")
    put("pkg/base.py", 'open(Path(__file__).parent / "table.json")')
    put("pkg/table.json")
    put("pkg/huge.bin")
    put("pkg/__pycache__/base.pyc")
    assert shipped(build("from pkg.deep import thing")) == {
        "pkg/__init__.py": "import",
        "pkg/base.py": "import",
        "pkg/deep/__init__.py": "import",
        "pkg/table.json": "literal",
    }


@pytest.mark.parametrize("code", ["import parts.one", "from parts import one", "from parts.one import f",
                                  "import importlib\nimportlib.import_module('parts.one')"])  # fmt: skip
def test_a_directory_without_init_is_a_package_when_it_has_the_module(
    code: str, put: Callable, build: Callable
) -> None:
    put("parts/one.py")
    assert paths(build(code)) == ["parts/one.py"]


def test_a_directory_of_data_is_no_package(put: Callable, build: Callable) -> None:
    put("data/x.csv")
    put("json/x.py")
    assert paths(build("import data, json")) == []


def test_an_installed_package_wins_over_a_directory_of_its_name(put: Callable, build: Callable) -> None:
    put("pydantic/main.py")
    assert paths(build("import pydantic.main")) == []


def test_modules_are_looked_for_in_the_root_in_src_and_where_sys_path_says(
    project: Path, put: Callable, build: Callable
) -> None:
    git(project, "init", "-q")
    for name in ("top.py", "src/inner/__init__.py", "lib/other.py", "nb/beside.py"):
        put(name)
    snapshot = build("import top, inner, other, beside", "import sys; sys.path.append('../lib')", at="nb/train.ipynb")
    assert paths(snapshot) == ["lib/other.py", "nb/beside.py", "src/inner/__init__.py", "top.py"]


def test_imports_in_a_circle_end(put: Callable, build: Callable) -> None:
    put("one.py", "import two")
    put("two.py", "import one")
    assert paths(build("import one")) == ["one.py", "two.py"]


@pytest.mark.parametrize("code", ["%run other.ipynb", "%run -i other.ipynb", "%run other"])
def test_a_notebook_that_is_run_ships_with_what_it_needs(code: str, put: Callable, build: Callable) -> None:
    put("other.ipynb", '{"cells": [{"cell_type": "code", "source": ["import aid\\n", "open(\\"in.csv\\")"]}]}')
    put("aid.py")
    put("in.csv")
    assert shipped(build(code)) == {"other.ipynb": "import", "aid.py": "import", "in.csv": "literal"}


@pytest.mark.parametrize("content", ["", "[]", '{"cells": 3}', "not json", '{"cells": [1]}', "[" * 5000])
def test_a_broken_notebook_that_is_run_ships_as_it_is(content: str, put: Callable, build: Callable) -> None:
    put("other.ipynb", content)
    assert paths(build("%run other.ipynb")) == ["other.ipynb"]


def test_a_script_that_is_started_ships_with_its_imports(put: Callable, build: Callable) -> None:
    put("prepare.py", "import aid")
    put("aid.py")
    assert paths(build("!python prepare.py")) == ["aid.py", "prepare.py"]


def test_a_module_that_is_no_python_is_told(put: Callable, build: Callable) -> None:
    put("broken.py", "def (")
    snapshot = build("import broken")
    assert paths(snapshot) == ["broken.py"]
    assert any("broken.py" in warning for warning in snapshot.warnings)


# --include and --exclude


@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("a.txt", ["nb/a.txt"]),
        ("*.txt", ["nb/a.txt"]),
        ("./sub", ["nb/sub/b.txt", "nb/sub/deep/c.txt"]),
        ("sub/**", ["nb/sub/b.txt", "nb/sub/deep/c.txt"]),
        ("**/*.txt", ["nb/a.txt", "nb/sub/b.txt", "nb/sub/deep/c.txt"]),
        ("../shared/*.csv", ["shared/s.csv"]),
        ("shared", ["shared/s.csv"]),
        ("sub/?.txt", ["nb/sub/b.txt"]),
        ("odd[[]1].txt", ["nb/odd[1].txt"]),
        ("odd[1].txt", ["nb/odd[1].txt"]),
    ],
)
def test_an_include_is_relative_to_the_notebook_or_the_root(
    glob: str, found: list[str], project: Path, put: Callable, build: Callable
) -> None:
    git(project, "init", "-q")
    for name in ("nb/a.txt", "nb/sub/b.txt", "nb/sub/deep/c.txt", "shared/s.csv"):
        put(name)
    if "odd" in glob:
        put("nb/odd[1].txt")
    snapshot = build("1", at="nb/train.ipynb", include=[glob])
    assert shipped(snapshot) == dict.fromkeys(found, "include")


def test_an_include_by_absolute_path_inside_the_root_is_understood(put: Callable, build: Callable) -> None:
    path = put("a.txt")
    assert paths(build("1", include=[str(path)])) == ["a.txt"]


@pytest.mark.parametrize(
    "glob", ["gone.txt", "*.gone", "", ".git", ".git/config", "__pycache__", "env", "\0", "x" * 5000]
)
def test_an_include_that_matches_nothing_is_refused(glob: str, put: Callable, build: Callable) -> None:
    for name in (".git/config", "__pycache__/a.pyc", "env/pyvenv.cfg", "env/lib/a.py"):
        put(name)
    with pytest.raises(SnapshotError, match="include"):
        build("1", include=[glob])


@pytest.mark.parametrize("glob", ["../outside.txt", "/etc/hostname", "link.txt", "sub/../../outside.txt"])
def test_an_include_outside_the_root_is_refused(glob: str, project: Path, put: Callable, build: Callable) -> None:
    (project.parent / "outside.txt").write_text("x")
    put("sub/x")
    (project / "link.txt").symlink_to(project.parent / "outside.txt")
    with pytest.raises(SnapshotError, match="outside") as caught:
        build("1", include=[glob])
    assert caught.value.code == "include_outside"


@pytest.mark.parametrize("glob", ["data/b.csv", "b.csv", "data/b*", "**/b.csv", "./data/b.csv"])
def test_an_exclude_drops_what_was_found(glob: str, put: Callable, build: Callable) -> None:
    put("data/a.csv")
    put("data/b.csv")
    snapshot = build('load("data/")', exclude=[glob])
    assert paths(snapshot) == ["data/a.csv"]
    assert snapshot.warnings == build('load("data/a.csv")').warnings


def test_an_excluded_directory_is_not_even_walked(
    put: Callable, build: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jupyter_mlops.snapshot.tree.FILE_LIMIT", 3)
    put("data/a.csv")
    for number in range(5):
        put(f"data/many/{number}")
    assert paths(build('load("data/")', exclude=["many"])) == ["data/a.csv"]


def test_an_exclude_that_drops_nothing_is_told(build: Callable) -> None:
    assert any("*.gone" in warning for warning in build("1", exclude=["*.gone"]).warnings)


def test_the_notebook_itself_cannot_be_excluded(build: Callable) -> None:
    assert [file.path for file in build("1", exclude=["*"]).files] == ["train.ipynb"]


# What never ships


def test_secrets_ship_only_when_they_are_named(put: Callable, build: Callable) -> None:
    for name in (".env", "conf/server.PEM", "conf/ok.txt", ".ssh/config", "my_credentials.json"):
        put(name)
    code = 'load(".env"); load("conf/"); open(".ssh/config"); open("my_credentials.json")'
    snapshot = build(code)
    assert paths(snapshot) == ["conf/ok.txt"]
    told = next(warning for warning in snapshot.warnings if "secret" in warning)
    for name in (".env", "conf/server.PEM", ".ssh/config", "my_credentials.json"):
        assert name in told
    assert paths(build(code, include=[".env"])) == [".env", "conf/ok.txt"]
    assert paths(build("1", include=["conf"])) == ["conf/ok.txt"]
    assert paths(build("1", include=["conf/*"])) == ["conf/ok.txt"]
    assert paths(build("1", include=["conf/server.PEM"])) == ["conf/server.PEM"]


def test_a_link_with_a_harmless_name_does_not_ship_a_secret(project: Path, put: Callable, build: Callable) -> None:
    put(".env", "PASSWORD=x")
    put(".git/config", "token")
    (project / "settings.txt").symlink_to(project / ".env")
    (project / "notes.txt").symlink_to(project / ".git" / "config")
    assert paths(build('open("settings.txt"); open("notes.txt")')) == []


def test_caches_repositories_and_environments_never_ship(put: Callable, build: Callable) -> None:
    for name in (
        "all/.git/config",
        "all/__pycache__/x.pyc",
        "all/.ipynb_checkpoints/n.ipynb",
        "all/venv/pyvenv.cfg",
        "all/venv/lib/x.py",
        "all/conda/conda-meta/x",
        "all/conda/y",
        "all/node_modules/x",
        "all/ok",
    ):
        put(name)
    assert paths(build('load("all/")')) == ["all/ok"]


def test_our_own_data_never_ships(
    project: Path, put: Callable, build: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_MLOPS_DATA_DIR", str(project / "all" / "mlops"))
    put("all/mlops/runs/x")
    put("all/ok")
    assert paths(build('load("all/")')) == ["all/ok"]


@pytest.mark.parametrize("kind", ["dot-dot", "link", "linked directory"])
def test_what_lies_outside_the_root_is_told_and_not_shipped(kind: str, project: Path, build: Callable) -> None:
    outside = project.parent / "outside"
    outside.mkdir()
    (outside / "x.csv").write_text("x")
    text = {"dot-dot": "../outside/x.csv", "link": "link.csv", "linked directory": "linked/x.csv"}[kind]
    (project / "link.csv").symlink_to(outside / "x.csv")
    (project / "linked").symlink_to(outside)
    snapshot = build(f'open("{text}")')
    assert paths(snapshot) == []
    assert any("Not shipped" in warning and text in warning for warning in snapshot.warnings)


def test_a_link_inside_the_root_ships_as_a_file(project: Path, put: Callable, build: Callable) -> None:
    put("real/x.csv", "1,2")
    (project / "link.csv").symlink_to("real/x.csv")
    (project / "linked").symlink_to("real")
    assert paths(build('open("link.csv"); open("linked/x.csv")')) == ["link.csv", "linked/x.csv"]


def test_links_in_a_circle_end(project: Path, put: Callable, build: Callable) -> None:
    put("data/x.csv")
    (project / "data/again").symlink_to(project / "data")
    (project / "data/self").symlink_to("self")
    assert paths(build('load("data/")', include=["**/*.csv"])) == ["data/x.csv"]


def test_absolute_paths_are_told_only_when_they_exist_and_are_not_the_systems(project: Path, build: Callable) -> None:
    there = project.parent / "there.csv"
    there.write_text("x")
    snapshot = build(f'open("{there}"); open("/gone/x.csv"); open("/etc/hostname"); open("/"); open("~/none")')
    assert paths(snapshot) == []
    told = [warning for warning in snapshot.warnings if "absolute" in warning]
    assert len(told) == 1
    assert str(there) in told[0]
    assert "hostname" not in told[0]


def test_pipes_and_names_that_are_no_text_do_not_ship(project: Path, put: Callable, build: Callable) -> None:
    put("data/ok")
    os.mkfifo(project / "data/pipe")
    Path(os.fsdecode(bytes(project / "data") + b"/\xff.csv")).write_text("x")
    snapshot = build('load("data/"); open("data/pipe")')
    assert paths(snapshot) == ["data/ok"]
    assert any(r"\xff.csv" in warning for warning in snapshot.warnings)


def test_very_deep_directories_do_no_harm(project: Path, put: Callable, build: Callable) -> None:
    put("data/ok")
    put("data/" + "d/" * 150 + "x")
    assert paths(build('load("data/")')) == ["data/ok"]


# Limits


def test_too_many_bytes_are_refused_with_the_largest_and_the_remedies(
    put: Callable, build: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (("a", 100), ("b", 3000), ("c", 5000), ("d", 2048)):
        put(f"data/{name}.bin", b"x" * size)
    monkeypatch.setattr("jupyter_mlops.snapshot.build.hash_file", lambda path: pytest.fail("hashed before the check"))
    with pytest.raises(SnapshotError) as caught:
        build('load("data/")', config=MLOps(snapshot_size_limit=4096))
    message, hint = caught.value.message, caught.value.hint
    assert caught.value.code == "too_large"
    assert "4.0 KiB" in message
    assert "data/c.bin (4.9 KiB), data/b.bin (2.9 KiB), data/d.bin (2.0 KiB)" in message
    assert "--exclude" in hint
    assert "fsspec" in hint
    assert "c.MLOps.snapshot_size_limit" in hint


def test_too_many_files_are_refused(put: Callable, build: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jupyter_mlops.snapshot.tree.FILE_LIMIT", 10)
    for number in range(11):
        put(f"data/{number}")
    with pytest.raises(SnapshotError, match="data") as caught:
        build('load("data/")')
    assert caught.value.code == "too_many_files"


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("**/x", "x", True), ("**/x", "a/b/x", True), ("a/**", "a/b/c", True), ("a/**", "a", True),
        ("a/**/z", "a/z", True), ("a/**/z", "a/b/c/z", True), ("a/*", "a/b/c", False), ("*", ".hidden", True),
        ("a?", "a/", False), ("[ab]/x", "b/x", True), ("**/a/**/b", "x/a/y/z/b", True), ("a", "b", False),
    ],
)  # fmt: skip
def test_globs_match_by_components(pattern: str, path: str, expected: bool) -> None:
    assert matches(pattern.split("/"), path.split("/")) is expected


def test_a_glob_of_many_stars_ends(project: Path, put: Callable) -> None:
    put("a/b/c/d/e/f/" + "a" * 100)
    tree = Tree(project.resolve())
    assert tree.expand("**/" * 10 + "*a" * 30 + "b") == []
    assert not matches((("**", "a") * 12) + ("z",), ["a"] * 60)
