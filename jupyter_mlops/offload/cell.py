"""Makes a notebook of one cell of a session, with what it reads, or of a Python file.

Everything that can be refused is refused here, before a run exists. Knows no run and no front.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from ..config import MLOps
from ..errors import ConfigError, UsageError
from ..redact import Redactor
from .names import CellNames, attribute_chains, names_of_cell, parse_cell
from .pickling import (
    KERNELS_OWN,
    RefusedError,
    SessionPickler,
    Sink,
    TooLargeError,
    is_dask_client,
    is_kernels_own,
    pickled_size,
    reason,
    write_header,
)

if TYPE_CHECKING:
    from nbformat import NotebookNode

CELL_ID = "offloaded-cell"
CELL_TAG = "jupyter_mlops.cell"
"""A run with this tag is that of a cell, and has results for a session."""
NAMES_FILE = "mlops-names.pkl"
_HISTORY = frozenset({"In", "Out", "_ih", "_oh", "_dh"})
_COUNTED = 16
"""How many times the limit is counted to say how much too large something is."""
_DEEPEST = 20


@dataclass(frozen=True)
class Offload:
    """A cell, or a file, that is ready to be a run.

    Attributes:
        notebook: To execute.
        files: What lies beside it, by name.
        names_in: Values of the session that the cell reads and that go with it.
        names_out: Names that it assigns.
        notices: Sentences that the person should read first.
    """

    notebook: NotebookNode
    files: dict[str, bytes] = field(default_factory=dict)
    names_in: tuple[str, ...] = ()
    names_out: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


def offload_cell(source: str, namespace: Mapping[str, Any], *, config: MLOps) -> Offload:
    """The run of a cell.

    Args:
        source: The cell as the person wrote it, magics included.
        namespace: The session's names; nothing in it is changed.
        config: Which names hold secrets, and how large a snapshot may be.

    Raises:
        UsageError: the cell is no Python, or reads something that cannot go with it: what cannot be pickled
            ("offload_unpicklable"), a secret ("offload_secret"), or too many bytes ("too_large").
        ConfigError: the pattern for secrets is no regular expression.
    """
    tree = parse_cell(source)
    names = names_of_cell(tree)
    luggage = _Luggage(namespace, config)
    luggage.choose(names)
    data = luggage.pack()
    imports = sorted({*_imports(luggage.imported, tree), *(f"import {name}" for name in _own_modules(luggage.modules))})
    load = f"jupyter_mlops.offload.load_names(globals(){f', {NAMES_FILE!r}' if data else ''})"
    clients = [f"{name} = jupyter_mlops.get_client()" for name in sorted(luggage.clients)]
    before = "\n".join(
        ["# What the next cell reads of the session that it comes from", *imports, "import jupyter_mlops.offload", "",
         *clients, load]
    )  # fmt: skip
    after = "\n".join(
        ["# What goes back to the session", "import jupyter_mlops.offload", "",
         f"jupyter_mlops.offload.save_results(globals(), {list(names.assigns)!r})"]
    )  # fmt: skip
    return Offload(
        notebook=_notebook(("names-of-the-session", before), (CELL_ID, source), ("results", after)),
        files={NAMES_FILE: data} if data else {},
        names_in=tuple(sorted(luggage.values)),
        names_out=names.assigns,
        notices=tuple(luggage.notices),
    )


def offload_script(path: Path) -> Offload:
    """The run of a Python file. Nothing goes along and nothing comes back; it is called without arguments.

    Raises:
        UsageError: it cannot be read, is empty, or is no Python.
    """
    import tokenize

    if path.suffix == ".ipynb":
        raise UsageError(f"{path.name} is a notebook.", hint=f"Run it with: jupyter mlops train {path}")
    try:
        data = path.read_bytes()
        with tokenize.open(path) as file:
            source = file.read()
    except (OSError, UnicodeDecodeError, SyntaxError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"The file {path} cannot be read: {why}.", hint="Give the path of a Python file.") from None
    parse_cell(source, what=f"The file {path.name}")
    before = f"import sys\n\nsys.argv = [{path.name!r}]"
    files = {}
    if "__file__" in source:
        # Only then: processes that a script spawns would import the file again, as they do everywhere else.
        before += f"\n__file__ = {path.name!r}"
        files[path.name] = data
    return Offload(notebook=_notebook(("script", before), (CELL_ID, source)), files=files)


def _notebook(*cells: tuple[str, str]) -> NotebookNode:
    from nbformat import v4

    nb = v4.new_notebook()
    nb.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nb.metadata["language_info"] = {"name": "python"}
    for cell_id, source in cells:
        nb.cells.append(v4.new_code_cell(source, id=cell_id, metadata={"tags": [cell_id]}))
    return nb


class _Luggage:
    """The values of a session that go with a cell.

    Args:
        namespace: The session's names.
        config: Which names hold secrets, and how large a snapshot may be.

    Attributes:
        values: To be pickled, by name.
        imported: Modules, by the name that the session has for them.
        clients: Names of Dask clients; the run gets its own.
        modules: Those that pickled values come from.
        notices: Sentences for the person.
    """

    def __init__(self, namespace: Mapping[str, Any], config: MLOps) -> None:
        self.values: dict[str, Any] = {}
        self.imported: dict[str, str] = {}
        self.clients: set[str] = set()
        self.modules: set[str] = set()
        self.notices: list[str] = []
        self._namespace = namespace
        self._limit = config.snapshot_size_limit
        try:
            self._secret = re.compile(config.secret_pattern).search
        except re.error as error:
            raise ConfigError(f"The setting secret_pattern is not a regular expression: {error}.") from error
        self._redactor = Redactor.from_environment(config.secret_pattern)
        self._travelling: dict[str, Any] = {}

    def choose(self, names: CellNames) -> None:
        """Take what the cell reads and the session has."""
        namespace = self._namespace
        for name in sorted(names.reads | names.perhaps):
            if name not in namespace or is_kernels_own(name, namespace[name]):
                if name in _HISTORY and name in names.reads:
                    raise UsageError(
                        f"The cell reads '{name}', the session's own history, which a run has not.",
                        hint="Give the value a name first, in another cell: x = Out[1]",
                    )
                continue
            self._choose(name, namespace[name], perhaps=name in names.perhaps)

    def _choose(self, name: str, value: Any, *, perhaps: bool) -> None:
        if is_dask_client(value):
            self.clients.add(name)
        elif isinstance(value, ModuleType) and sys.modules.get(value.__name__) is value:
            self.imported[name] = value.__name__
        elif perhaps and (why := self._against(name, value)) is not None:
            self.notices.append(f"{why} It stays here; the cell may not need it.")
        else:
            self._check_name(name, value, via="")
            self.values[name] = value

    def _against(self, name: str, value: Any) -> str | None:
        """Why a value that is not surely needed is better not sent, in a sentence; None: nothing speaks against it."""
        if self._holds_secret(name, value):
            return f"The cell reads '{name}', which looks like a secret."
        if pickled_size(value, self._namespace, limit=self._limit) >= self._limit:
            return _culprit(name, value, self._namespace, ()) or f"The cell reads '{name}', which is too large to send."
        return _culprit(name, value, self._namespace, ())

    def pack(self) -> bytes:
        """The values as one file, with what their functions read; empty when there are none.

        Raises:
            UsageError: one cannot be pickled, is a secret, or all are too large.
        """
        if not self.values:
            return b""
        buffer = io.BytesIO()
        write_header(buffer)
        pickler = SessionPickler(Sink(buffer, self._limit), self._namespace, self._used)
        try:
            pickler.dump(self.values)
        except UsageError:
            raise
        except TooLargeError:
            raise self._too_large() from None
        except Exception as error:  # noqa: BLE001 - classes raise what they like when they are pickled
            raise self._unpicklable(error) from None
        self.modules = pickler.modules
        with buffer.getbuffer() as view:
            if self._redactor.found_in(view):
                raise self._secret_value()
        return buffer.getvalue()

    def _used(self, found: dict[str, Any], function: str) -> dict[str, Any]:
        """The globals that travel with a function of the session."""
        travelling = {}
        for name, value in found.items():
            if is_dask_client(value):
                self.clients.add(name)
                continue
            if name not in self._travelling and name not in self.values:
                self._check_name(name, value, via=f"'{function}', which reads ")
            self._travelling[name] = travelling[name] = value
        return travelling

    def _check_name(self, name: str, value: Any, *, via: str) -> None:
        if self._holds_secret(name, value):
            raise UsageError(
                f"The cell reads {via}'{name}', which looks like a secret, and what a run is sent is kept with it.",
                hint=f'Read it from the environment in the cell: os.environ["{name.upper()}"]. If it is none, give '
                "it another name.",
                code="offload_secret",
            )
        plain = isinstance(value, (bool, int, float, type(None), list, tuple, set, frozenset, dict))
        if self._secret(name) and not plain and not isinstance(value, (FunctionType, type, ModuleType)):
            self.notices.append(f"'{name}' sounds like a secret; it is sent as it is and kept with the run.")

    def _holds_secret(self, name: str, value: Any) -> bool:
        return self._secret(name) is not None and _has_text(value)

    def _secret_value(self) -> UsageError:
        names = []
        for name, value in self.values.items():
            buffer = io.BytesIO()
            SessionPickler(buffer, self._namespace, self._used).dump(value)
            with buffer.getbuffer() as view:
                names += [f"'{name}'"] if self._redactor.found_in(view) else []
        return UsageError(
            f"{' and '.join(names) or 'Something'}, which the cell reads, holds the value of a secret of the "
            "environment (a variable with a name such as PASSWORD or TOKEN).",
            hint="A run has the same variables: read it in the cell with os.environ, and leave it out of what is sent.",
            code="offload_secret",
        )

    def _too_large(self) -> UsageError:
        most = _COUNTED * self._limit
        values = {**self._travelling, **self.values}
        sizes = {name: pickled_size(value, self._namespace, limit=most) for name, value in values.items()}
        largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
        listed = ", ".join(
            f"{name} ({_type_name(values[name])}, {'over ' * (sizes[name] >= most)}{_bytes(sizes[name])})"
            for name in largest
        )
        return UsageError(
            f"What the cell reads is more than {_bytes(self._limit)}, which is all that a run may be sent. "
            f"The largest: {listed}.",
            hint="Write it to a file outside of the project (df.to_parquet) and read that in the cell, make it "
            "smaller, or raise c.MLOps.snapshot_size_limit.",
            code="too_large",
        )

    def _unpicklable(self, error: Exception) -> UsageError:
        culprits = [_culprit(name, value, self._namespace, ()) for name, value in self.values.items()]
        found = [culprit for culprit in culprits if culprit is not None]
        if not found:  # each alone can be, all together cannot: nothing better is known than what pickle said
            found = [f"What the cell reads cannot be sent to a run: {reason(error)}."]
        return UsageError(
            "\n".join(dict.fromkeys(found)),
            hint="Make it in the cell itself: send the path, address or data that it is made from.",
            code="offload_unpicklable",
        )


def _culprit(name: str, value: Any, namespace: Mapping[str, Any], through: tuple[str, ...]) -> str | None:
    """The sentence on a value that cannot be pickled, or on the global of a function that cannot; None: it can."""
    inner: dict[str, Any] = {}

    def note(found: dict[str, Any], _function: str) -> dict[str, Any]:
        inner.update({key: one for key, one in found.items() if not is_dask_client(one)})
        return {}

    sentence = None
    try:
        SessionPickler(Sink(None, sys.maxsize), namespace, note).dump(value)
    except Exception as error:  # noqa: BLE001 - classes raise what they like when they are pickled
        path = "".join(f"'{step}', which reads " for step in through)
        noun = reason(error) if not isinstance(error, RefusedError) else str(error)
        sentence = f"The cell reads {path}'{name}' ({_type_name(value)}), which cannot be sent to a run: {noun}."
    for key, one in inner.items():
        if key not in (*through, name) and len(through) < _DEEPEST:
            deeper = _culprit(key, one, namespace, (*through, name))
            if deeper is not None:
                return deeper
    return sentence


def _has_text(value: Any, depth: int = 0) -> bool:
    """Whether a value is text, or plain data with text in it."""
    if isinstance(value, (str, bytes, bytearray)):
        return True
    if depth > _DEEPEST or not isinstance(value, (dict, list, tuple, set, frozenset)):
        return False
    parts = [*value, *value.values()] if isinstance(value, dict) else value
    return any(_has_text(part, depth + 1) for part in parts)


def _type_name(value: Any) -> str:
    kind = type(value)
    return (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )


def _imports(modules: Mapping[str, str], tree: ast.AST) -> Iterable[str]:
    """Lines that give the modules their names again, with the submodules that the cell goes through."""
    chains = attribute_chains(tree)
    for name, module in modules.items():
        yield f"import {module}" if name == module else f"import {module} as {name}"
        for chain in chains:
            first, _, rest = chain.partition(".")
            if first == name and f"{module}.{rest}" in sys.modules:
                yield f"import {module}.{rest}"


def _own_modules(names: Iterable[str]) -> Iterable[str]:
    """Those that are the person's own: neither Python's nor installed, so that their files have to ship."""
    installed = {Path(path).resolve() for key, path in sysconfig.get_paths().items() if "lib" in key}
    for name in names:
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None)
        top = name.partition(".")[0]
        if not file or top in (__name__.partition(".")[0], *sys.stdlib_module_names) or top in KERNELS_OWN:
            continue
        place = Path(file).resolve()
        if not any(place.is_relative_to(directory) for directory in installed) and "site-packages" not in place.parts:
            yield name


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
