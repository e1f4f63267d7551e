"""What Python code refers to: the modules that it imports, the paths that it names, the files that it runs.

Reads source text and nothing else: whether a path or a module exists is for others to find out.
"""

from __future__ import annotations

import ast
import re
import shlex
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .texts import HOLE, Texts, called_name, dotted_name, joined

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_OTHER_LANGUAGE = frozenset(
    {"bash", "sh", "script", "html", "javascript", "js", "latex", "markdown", "svg", "perl", "ruby",
     "writefile", "file", "sql", "cmd", "R", "julia", "pypy", "cython", "cuda"}
)  # fmt: skip
_CODE_MAGICS = frozenset({"time", "timeit", "prun", "memit", "mprun", "lprun"})
_WRITES = re.compile(
    r"to_(csv|parquet|json|pickle|excel|feather|hdf|html|latex|markdown|stata|xml|netcdf|zarr|orc|file)"
    r"|save\w*|imsave|imwrite|write\w*|dump|mkdir|makedirs|rmtree|unlink|remove|rmdir|touch|rename"
    r"|log_artifacts?"
)
_READS_DIRECTORY = re.compile(
    r"(?i).*(path|dir|open|load|read|glob|walk|folder|scan|image|dataset|copy|exists|import|from_).*"
)
_NAMES_DIRECTORY = re.compile(r"(?i).*(path|dir|folder|root|data|file|input|source|src|train|test|valid).*")
_NAMES_OUTPUT = re.compile(r"(?i).*(out|result|save|log|checkpoint|ckpt|cache|tmp|temp|dest|target).*")


@dataclass(frozen=True)
class PathMention:
    """A text that may be a path.

    Attributes:
        text: As the code has it.
        pattern: Whether parts that only the run knows stand in it as `*`; the rest is escaped.
        as_path: Whether the code clearly uses it as a path, so that a plain word may be a directory.
    """

    text: str
    pattern: bool = False
    as_path: bool = False


@dataclass(frozen=True)
class ModuleMention:
    """An import.

    Attributes:
        module: Dotted name; empty for `from . import x`.
        names: What is imported from it; each may be a submodule.
        level: Number of leading dots.
    """

    module: str
    names: tuple[str, ...] = ()
    level: int = 0


@dataclass
class References:
    """What some code refers to.

    Attributes:
        modules: Its imports.
        paths: Texts that may be paths.
        runs: Files that `%run` executes.
        search: Directories that it adds to `sys.path` or changes to.
        unreadable: Indexes of the sources that are not Python.
    """

    modules: dict[ModuleMention, None] = field(default_factory=dict)
    paths: dict[PathMention, None] = field(default_factory=dict)
    runs: dict[str, None] = field(default_factory=dict)
    search: dict[str, None] = field(default_factory=dict)
    unreadable: list[int] = field(default_factory=list)


def references_in(sources: Sequence[str], *, file_name: str | None = None) -> References:
    """What the sources refer to; a name that one assigns is known in all of them.

    Args:
        sources: Code cells in their order, magics included; or the text of one module.
        file_name: What `__file__` is, for a module.
    """
    found = References()
    trees: list[ast.Module] = []
    for index, source in enumerate(sources):
        tree = _parse(source)
        if tree is None:
            found.unreadable.append(index)
        else:
            trees.append(tree)
    reader = _Reader(found)
    if file_name is not None:
        reader.texts.names["__file__"] = [file_name]
    reader.learn(trees)
    for tree in trees:
        reader.read(tree)
    return found


def _parse(source: str) -> ast.Module | None:
    tree = _parse_python(source)
    if tree is not None or not source.strip():
        return tree
    try:
        # Only now: importing IPython takes longer than all of the rest.
        from IPython.core.inputtransformer2 import TransformerManager

        return _parse_python(TransformerManager().transform_cell(source))
    except Exception:  # noqa: BLE001 - IPython's transformer meets text that is no code at all
        return None


def _parse_python(source: str) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


class _Reader:
    def __init__(self, found: References) -> None:
        self.found = found
        self.texts = Texts()
        self.evaluate = self.texts.of
        self.loaded: set[str] = set()

    def learn(self, trees: Iterable[ast.Module]) -> None:
        """Find out the texts that names stand for."""
        for tree in trees:
            for node in ast.walk(tree):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                    self.loaded.add(node.id)
            for statement in _statements(tree):
                for name, value in _assigned(statement):
                    self.texts.learn(name, value)

    def read(self, tree: ast.AST) -> None:
        """Note what the tree refers to."""
        waiting: list[tuple[ast.AST, bool]] = [(tree, False)]
        while waiting:
            node, as_path = waiting.pop()
            waiting.extend(reversed(list(self._visit(node, as_path))))

    def _visit(self, node: ast.AST, as_path: bool) -> Iterator[tuple[ast.AST, bool]]:  # noqa: PLR0912 - one per syntax
        """Note what this node refers to; yields what is to be looked at below it."""
        if isinstance(node, ast.Import):
            for alias in node.names:
                self._module(ModuleMention(alias.name))
        elif isinstance(node, ast.ImportFrom):
            self._module(ModuleMention(node.module or "", tuple(alias.name for alias in node.names), node.level))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return  # a docstring
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            yield from self._assignment(node)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from self._function(node)
        elif (isinstance(node, ast.Call) and self._ipython(node)) or (
            isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
        ):
            return
        elif isinstance(node, ast.expr) and (texts := self.evaluate(node)):
            for text in texts:
                self._path(text, as_path or not isinstance(node, (ast.Constant, ast.Name)))
            # f"{read('a.csv')}.txt": what is no text itself may still name something.
            children = node.args if isinstance(node, ast.Call) else ast.iter_child_nodes(node)
            for child in children:
                inner = child.value if isinstance(child, ast.FormattedValue) else child
                if isinstance(inner, ast.expr) and not self.evaluate(inner):
                    yield inner, False
        elif isinstance(node, ast.Call):
            yield from self._call(node)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            # some_directory / "train.csv": the tail is worth a look in the usual places.
            left, tail = node.left, self.evaluate(node.right)
            while tail and isinstance(left, ast.BinOp) and isinstance(left.op, ast.Div):
                tail = joined([self.evaluate(left.right), tail])
                left = left.left
            for text in tail:
                self._path(text, False)
            yield left, False
            if not tail:
                yield node.right, False
        else:
            for child in ast.iter_child_nodes(node):
                yield child, False

    def _assignment(self, node: ast.Assign | ast.AnnAssign) -> Iterator[tuple[ast.AST, bool]]:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        yield from ((target, False) for target in targets)
        if node.value is None:
            return
        if names and any(name in self.loaded for name in names) and self.evaluate(node.value):
            return  # noted where it is used: DATA alone, or only the file in DATA / "x.csv"
        label = names[0] if names else ""
        yield node.value, bool(_NAMES_DIRECTORY.fullmatch(label)) and not _NAMES_OUTPUT.fullmatch(label)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> Iterator[tuple[ast.AST, bool]]:
        for label, default in _defaults(node.args):
            yield default, bool(_NAMES_DIRECTORY.fullmatch(label)) and not _NAMES_OUTPUT.fullmatch(label)
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.arguments):
                yield child, False

    def _call(self, node: ast.Call) -> Iterator[tuple[ast.AST, bool]]:
        name = called_name(node)
        if name in ("import_module", "__import__") and node.args:
            for text in self.evaluate(node.args[0]):
                if not text.startswith("."):
                    self._module(ModuleMention(text))
            return
        if (
            dotted_name(node.func) in ("sys.path.append", "sys.path.insert", "site.addsitedir", "os.chdir")
            and node.args
        ):
            self.found.search.update(dict.fromkeys(self.evaluate(node.args[-1])))
            return
        parts: list[ast.expr] = [*node.args, *(keyword.value for keyword in node.keywords)]
        if isinstance(node.func, ast.Attribute):
            parts.append(node.func.value)
        elif not isinstance(node.func, ast.Name):
            parts.append(node.func)
        if _WRITES.fullmatch(name) or self._opens_for_writing(node, name):
            # What an earlier run left there must not ship with the next.
            yield from ((part, False) for part in parts if not self.evaluate(part))
            return
        reads = bool(_READS_DIRECTORY.fullmatch(name))
        labels = {id(keyword.value): keyword.arg or "" for keyword in node.keywords}
        for part in parts:
            label = labels.get(id(part), "")
            yield (
                part,
                reads or (bool(_NAMES_DIRECTORY.fullmatch(label)) and not _NAMES_OUTPUT.fullmatch(label)),
            )

    def _opens_for_writing(self, node: ast.Call, name: str) -> bool:
        if name != "open":
            return False
        position = 0 if isinstance(node.func, ast.Attribute) and self.evaluate(node.func.value) else 1
        modes = [keyword.value for keyword in node.keywords if keyword.arg == "mode"] or node.args[position:][:1]
        return any(isinstance(m, ast.Constant) and isinstance(m.value, str) and m.value[:1] in "wx" for m in modes)

    def _ipython(self, node: ast.Call) -> bool:
        """Whether this is a magic or a shell command; then it is noted."""
        if not isinstance(node.func, ast.Attribute) or not isinstance(node.func.value, ast.Call):
            return False
        if called_name(node.func.value) != "get_ipython":
            return False
        arguments = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        kind = node.func.attr
        if kind in ("system", "getoutput") and arguments:
            self._words(arguments[0])
        elif kind == "run_line_magic" and len(arguments) == 2:
            self._line_magic(arguments[0], arguments[1])
        elif kind == "run_cell_magic" and len(arguments) == 3:
            if arguments[0] not in _OTHER_LANGUAGE:
                self._code(arguments[2])
        else:
            return False
        return True

    def _line_magic(self, name: str, line: str) -> None:
        if name in _CODE_MAGICS:
            self._code(re.sub(r"^(-\w\s*\d*\s+)+", "", line))
            return
        words = _split(line)
        plain = [word for word in words if not word.startswith("-")]
        if name == "run" and plain:
            self.found.runs[plain[0]] = None
        if name in ("load_ext", "reload_ext") and plain:
            self._module(ModuleMention(plain[0]))
        elif name == "cd" and plain:
            self.found.search[plain[0]] = None
        else:
            self._words(line)

    def _code(self, source: str) -> None:
        tree = _parse(source)
        if tree is not None:
            self.learn([tree])
            self.read(tree)

    def _words(self, line: str) -> None:
        for word in _split(line):
            self._path(word.rpartition("=")[2] if word.startswith("--") else word, False)

    def _module(self, mention: ModuleMention) -> None:
        self.found.modules[mention] = None

    def _path(self, text: str, as_path: bool) -> None:
        if not text.strip() or "\0" in text or "://" in text:
            return
        if HOLE not in text:
            self.found.paths[PathMention(text, as_path=as_path)] = None
            return
        head, separator, _ = text.partition("/")
        # f"{name}.csv" would ship every file beside the notebook; f"data/{name}.csv" says where.
        if separator and HOLE not in head and head not in ("", ".", ".."):
            escaped = re.sub(r"([*?[])", r"[\1]", text)
            self.found.paths[PathMention(re.sub(f"{HOLE}+", "*", escaped), pattern=True, as_path=as_path)] = None


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    # In the order of the source, which ast.walk does not keep: a name's value may use an earlier name.
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.expr) or isinstance(node, ast.Lambda):
            waiting.extend(reversed([child for child in ast.iter_child_nodes(node) if not _is_leaf(child)]))


def _is_leaf(node: ast.AST) -> bool:
    return isinstance(node, (ast.expr, ast.expr_context, ast.operator)) and not isinstance(node, ast.Lambda)


def _assigned(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Name):
                yield target.id, node.value
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
        yield node.target.id, node.value


def _defaults(arguments: ast.arguments) -> Iterator[tuple[str, ast.expr]]:
    positional = [*arguments.posonlyargs, *arguments.args]
    with_default = positional[len(positional) - len(arguments.defaults) :]
    for argument, default in zip(with_default, arguments.defaults, strict=True):
        yield argument.arg, default
    for argument, keyword_default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if keyword_default is not None:
            yield argument.arg, keyword_default


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()
