"""Values of a session as bytes, and back in another process: cloudpickle, with the session's globals kept in place.

A function that was defined in the session reads the session's names. Pickled alone it would get a copy of them, and
then `threshold = 5` in a cell would not reach it. Here such a function is bound to the names of the process that loads
it: what it reads is sent beside it, as names, not inside it.

Knows no notebook and no run.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import FunctionType, ModuleType
from typing import IO, Any

import cloudpickle

from ..errors import MLOpsError

_FORMAT = 1
_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
_names_here: ContextVar[dict[str, Any]] = ContextVar("_names_here")

KERNELS_OWN = frozenset(
    {"get_ipython", "exit", "quit", "open", "display", "In", "Out", "_ih", "_oh", "_dh", "__name__", "__doc__",
     "__package__", "__loader__", "__spec__", "__builtin__", "__builtins__", "__file__"}
)  # fmt: skip
"""Names that every kernel has by itself."""


class RefusedError(Exception):
    """An object that could be pickled and would be worth nothing elsewhere; says what it is."""


class TooLargeError(Exception):
    """More bytes than are allowed."""


class Sink:
    """What a pickler writes to; takes bytes up to a limit.

    Args:
        target: Where they go; None counts them only.
        limit: Bytes; beyond it writing raises `TooLargeError`.
    """

    def __init__(self, target: IO[bytes] | Any | None, limit: int) -> None:
        self.size = 0
        self._target = target
        self._limit = limit

    def write(self, data: Any) -> int:
        """Take the bytes in.

        Raises:
            TooLargeError: they are too many.
        """
        with memoryview(data) as view:
            count = view.nbytes
            self.size += count
            if self.size > self._limit:
                raise TooLargeError
            if self._target is not None:
                self._target.write(view)
        return count


class SessionPickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle ships no types
    """Pickles values of a session.

    Args:
        target: A file to write to.
        namespace: The session's names, as its functions have them for globals.
        used: Asked about each function of the session for the globals that travel with it, given as a dict by name
            and the function's name. None: none travel.

    Attributes:
        modules: Names of the modules that the values come from and have to find again.
    """

    def __init__(
        self,
        target: Any,
        namespace: Mapping[str, Any],
        used: Callable[[dict[str, Any], str], dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(target, protocol=pickle.HIGHEST_PROTOCOL)
        self.modules: set[str] = set()
        self._namespace = namespace
        self._used = used
        # What cloudpickle would make a function's globals from, by the identity of those it has now.
        self.globals_ref[id(namespace)] = _GLOBALS

    def reducer_override(self, obj: Any) -> Any:
        """Pickle's hook for every object that is not plain data."""
        if isinstance(obj, io.IOBase):
            if obj is sys.stdout or obj is sys.stderr:
                return getattr, (sys, "stdout" if obj is sys.stdout else "stderr")
            if not isinstance(obj, (io.BytesIO, io.StringIO)):
                raise RefusedError("an open file stays where it was opened")
        elif type(obj).__module__.partition(".")[0] == "distributed":
            _refuse_dask(obj)
        reduced = super().reducer_override(obj)
        if isinstance(obj, ModuleType):
            self.modules.add(obj.__name__)
        elif reduced is NotImplemented and isinstance(obj, (type, FunctionType)):
            self.modules.add(obj.__module__)
        elif isinstance(obj, FunctionType) and obj.__globals__ is self._namespace:
            state = reduced[2][1]
            known = {name: value for name, value in state["__globals__"].items() if not is_kernels_own(name, value)}
            state["__globals__"] = self._used(known, obj.__qualname__) if self._used is not None else {}
        return reduced


class _Globals:
    """Stands in a pickle for the names of whoever loads it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _session_globals, ()


_GLOBALS = _Globals()


def _session_globals() -> dict[str, Any]:
    return _names_here.get()


def is_kernels_own(name: str, value: Any) -> bool:
    """Whether a name is one that a kernel has by itself, with the value that it comes with."""
    if name not in KERNELS_OWN:
        return False
    if name.startswith("_") or name in ("In", "Out"):
        return True
    if name == "open":  # IPython's, which warns of file descriptors 0 to 2
        return value is io.open or getattr(value, "__wrapped__", None) is io.open
    made_by = getattr(value, "__module__", None) or type(value).__module__
    return str(made_by).partition(".")[0] in ("IPython", "ipykernel", "_sitebuiltins")


def is_dask_client(value: Any) -> bool:
    """Whether a value is a client of a Dask cluster; imports nothing."""
    distributed = sys.modules.get("distributed")
    return distributed is not None and isinstance(value, distributed.Client)


def _refuse_dask(obj: Any) -> None:
    import distributed

    if isinstance(obj, distributed.Future):
        raise RefusedError("a Dask future belongs to the session's cluster; send what it stands for, its result()")
    if isinstance(obj, (distributed.Client, distributed.deploy.Cluster)):
        raise RefusedError("a Dask client or cluster belongs to its own process; call get_client() in the cell")


def write_header(target: Any, **facts: Any) -> None:
    """The line that stands before the pickle, so that it can be judged before it is loaded."""
    target.write(json.dumps({"format": _FORMAT, "python": _PYTHON, **facts}).encode() + b"\n")


def read_header(file: IO[bytes], *, what: str) -> dict[str, Any]:
    """The facts of `write_header`; the file stands at the pickle then.

    Raises:
        MLOpsError: it is of another Python, or no such file.
    """
    try:
        facts = json.loads(file.readline(2**24))
        made_by, version = facts["python"], facts["format"]
    except (ValueError, KeyError, TypeError):
        raise MLOpsError(f"{what} cannot be read: they are incomplete.", code="results") from None
    if made_by != _PYTHON or version != _FORMAT:
        raise MLOpsError(
            f"{what} were written by Python {made_by}, and this is Python {_PYTHON}: functions cannot cross over.",
            hint="Use the same kernel on both sides.",
            code="results",
        )
    return dict(facts)


def load(file: IO[bytes], namespace: dict[str, Any]) -> Any:
    """The values back, their functions bound to this namespace. Only for files of our own runs: a pickle is code.

    Args:
        file: Stands at the pickle.
        namespace: What functions of the session read their globals from; those that travel with them are put there.
    """
    with _builtins_kept(namespace):
        token = _names_here.set(namespace)
        try:
            return pickle.Unpickler(file).load()  # noqa: S301 - from our own run
        finally:
            _names_here.reset(token)


@contextmanager
def _builtins_kept(namespace: dict[str, Any]) -> Iterator[None]:
    # cloudpickle sets them to a dict; in a session they are the module.
    missing = object()
    before = namespace.get("__builtins__", missing)
    try:
        yield
    finally:
        if before is not missing:
            namespace["__builtins__"] = before
        else:
            namespace.pop("__builtins__", None)


def problem_with(value: Any, namespace: Mapping[str, Any]) -> str | None:
    """Why a value cannot be pickled, without its last stop; None when it can."""
    try:
        SessionPickler(Sink(None, sys.maxsize), namespace).dump(value)
    except Exception as error:  # noqa: BLE001 - classes raise what they like when they are pickled
        return reason(error)
    return None


def reason(error: BaseException) -> str:
    """What an attempt to pickle said, on one line and short."""
    words = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return words if len(words) <= 200 else words[:199] + "…"


def pickled_size(value: Any, namespace: Mapping[str, Any], *, limit: int) -> int:
    """Bytes that a value takes, at most the limit; the limit too for what cannot be pickled."""
    sink = Sink(None, limit)
    try:
        SessionPickler(sink, namespace).dump(value)
    except Exception:  # noqa: BLE001 - only its size was asked for
        return limit
    return sink.size


def digest(value: Any, namespace: Mapping[str, Any]) -> bytes | None:
    """A digest of a value's pickle: another one means that the value has changed. None: it cannot be pickled."""
    sink = _Hasher()
    try:
        SessionPickler(sink, namespace).dump(value)
    except Exception:  # noqa: BLE001 - what has no digest is reported where it is sent
        return None
    return sink.hash.digest()


class _Hasher:
    def __init__(self) -> None:
        self.hash = hashlib.blake2b(digest_size=16)

    def write(self, data: Any) -> int:
        self.hash.update(data)
        return memoryview(data).nbytes
