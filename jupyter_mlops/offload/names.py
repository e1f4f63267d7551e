"""Which names a cell reads before it gives them a value, and which it assigns. Reads source and runs none.

The answer errs on the side of reading: a name that is read on any path counts, and one that only some path has
given a value before counts as `perhaps`.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ..errors import UsageError

_CODE_MAGICS = frozenset({"time", "timeit", "prun", "memit", "mprun", "lprun", "capture"})
"""Magics whose line or body is Python that reads the session's names."""
_OPTIONS = re.compile(r"^(-\w\s*\d*\s+)+")
_EXPANDED = re.compile(r"\{([^{}]*)\}|\$(\w+)")
_WORD = re.compile(r"[^\W\d]\w*")
_QUERY_NAME = re.compile(r"@([^\W\d]\w*)")
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_BRANCHING = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.With, ast.AsyncWith, ast.Match)
_LEAVES = (ast.Return, ast.Raise, ast.Break, ast.Continue)


@dataclass(frozen=True)
class CellNames:
    """The names of a cell, as its top level has them.

    Attributes:
        reads: Read before the cell gives them a value; builtins among them.
        perhaps: Read where only some path has given them a value, or in text that may stand for code.
        assigns: Given a value, statement by statement; a `from x import *` adds names that are not known here.
    """

    reads: frozenset[str]
    perhaps: frozenset[str]
    assigns: tuple[str, ...]


def parse_cell(source: str, *, what: str = "The cell") -> ast.Module:
    """The syntax tree of a cell; magics and shell lines are the calls that IPython makes of them.

    Args:
        source: The cell's, or a file's.
        what: How a person calls it.

    Raises:
        UsageError: it is empty, or no Python.
    """
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the person's code, which is not ours to judge
            tree: ast.Module = ast.parse(TransformerManager().transform_cell(source))
            compile(tree, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        place = f" (line {error.lineno})" if isinstance(error, SyntaxError) and error.lineno else ""
        why = getattr(error, "msg", None) or str(error) or type(error).__name__
        raise UsageError(f"{what} is no Python: {why}{place}.", hint="Correct it; nothing was started.") from None
    if not tree.body:
        raise UsageError(f"{what} is empty: there is nothing to run.", hint="Write some code below %%mlops run.")
    return tree


def names_of_cell(tree: ast.Module) -> CellNames:
    """What the cell reads and assigns.

    Args:
        tree: As `parse_cell` gives it.
    """
    flow = _Flow()
    flow.block(tree.body)
    return CellNames(frozenset(flow.reads), frozenset(flow.perhaps - flow.reads), tuple(flow.assigns))


def attribute_chains(tree: ast.AST) -> set[str]:
    """Every dotted name that the tree has, with its beginnings: `a.b.c` gives `a.b` and `a.b.c`."""
    found = set()
    for node in ast.walk(tree):
        parts: list[str] = []
        base = node
        while isinstance(base, ast.Attribute):
            parts.append(base.attr)
            base = base.value
        if parts and isinstance(base, ast.Name):
            found.add(".".join([base.id, *reversed(parts)]))
    return found


@dataclass
class _Flow:
    """Follows the top level of a cell from its first line to its last.

    A function's own reads count when its name is first used: before that it does not run.
    """

    bound: set[str] = field(default_factory=set)
    touched: set[str] = field(default_factory=set)
    reads: set[str] = field(default_factory=set)
    perhaps: set[str] = field(default_factory=set)
    assigns: dict[str, None] = field(default_factory=dict)
    waiting: dict[str, set[str]] = field(default_factory=dict)

    def block(self, statements: Sequence[ast.stmt]) -> None:
        for statement in statements:
            visit = getattr(self, f"_{type(statement).__name__.lower()}", self._simple)
            visit(statement)

    def use(self, names: Iterable[str], *, surely: bool = True) -> None:
        stack, seen = list(names), set()
        while stack:
            name = stack.pop()
            if name in seen:
                continue
            seen.add(name)
            if name not in self.bound:
                (self.reads if surely and name not in self.touched else self.perhaps).add(name)
            stack.extend(self.waiting.get(name, ()))

    def bind(self, names: Iterable[str]) -> None:
        for name in names:
            self.bound.add(name)
            self.touched.add(name)
            self.assigns.setdefault(name)

    def evaluate(self, *nodes: ast.AST | None) -> None:
        """Expressions: what they read, then what a `:=` in them binds."""
        for node in nodes:
            if node is None:
                continue
            self.use(_free(node))
            self.use(_names_in_text(node), surely=False)
            self.bind(_bindings([node]))

    def _simple(self, node: ast.stmt) -> None:
        if isinstance(node, (ast.Expr, ast.Assign)) and self._magic(node.value):
            self.evaluate(*(node.targets if isinstance(node, ast.Assign) else []))
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            self.evaluate(*_evaluated_with(node.value))
            later = _free_in_function(node.value, frozenset())
            for target in node.targets:
                if isinstance(target, ast.Name):
                    self.waiting.setdefault(target.id, set()).update(later)
                else:
                    self.use(later)
                self.evaluate(target)
        else:
            self.evaluate(node)

    def _augassign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.use([node.target.id])
        self.evaluate(node)

    def _annassign(self, node: ast.AnnAssign) -> None:
        self.evaluate(node.annotation, node.value)
        if node.value is not None or not isinstance(node.target, ast.Name):
            self.evaluate(node.target)

    def _delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            self.evaluate(target)
            for name in _deleted(target):
                self.use([name])
                self.bound.discard(name)
                self.assigns.pop(name, None)

    def _import(self, node: ast.Import) -> None:
        self.bind(alias.asname or alias.name.partition(".")[0] for alias in node.names)

    def _importfrom(self, node: ast.ImportFrom) -> None:
        self.bind(alias.asname or alias.name for alias in node.names if alias.name != "*")

    def _functiondef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._definition(node, _free_in_function(node, frozenset()))

    _asyncfunctiondef = _functiondef

    def _classdef(self, node: ast.ClassDef) -> None:
        now, later = _free_in_class(node, frozenset())
        self.use(now)
        self._definition(node, later)

    def _definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, later: set[str]) -> None:
        self.use(name for part in _evaluated_with(node) for name in _free(part))
        if node.decorator_list:  # a decorator may call what it decorates
            self.use(later)
        self.waiting.setdefault(node.name, set()).update(later - {node.name})
        self.bind([node.name])

    def _if(self, node: ast.If) -> None:
        self.evaluate(node.test)
        self._branches([node.body, node.orelse])

    def _for(self, node: ast.For | ast.AsyncFor) -> None:
        self.evaluate(node.iter)
        self._branches([[node.target, *node.body], node.orelse], one_is_sure=False)

    _asyncfor = _for

    def _while(self, node: ast.While) -> None:
        self.evaluate(node.test)
        self._branches([node.body, node.orelse], one_is_sure=False)

    def _with(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            self.evaluate(item.context_expr, item.optional_vars)
        if any("suppress" in ast.unparse(item.context_expr) for item in node.items):
            self._branches([node.body], one_is_sure=False)
        else:
            self.block(node.body)

    _asyncwith = _with

    def _try(self, node: ast.Try) -> None:
        before = set(self.bound)
        self.block([*node.body, *node.orelse])
        ends = [set(self.bound)]
        for handler in node.handlers:
            self.bound = set(before)  # what the body has touched may have its value or not
            self.evaluate(handler.type)
            self.bind([handler.name] if handler.name else [])
            self.block(handler.body)
            if handler.name:
                self.bound.discard(handler.name)
                self.assigns.pop(handler.name, None)
            if not _leaves(handler.body):
                ends.append(set(self.bound))
        after = set.intersection(*ends)
        self.bound = set(before)  # `finally` runs wherever the body was left
        self.block(node.finalbody)
        self.bound = (after | self.bound) - (before - self.bound)

    _trystar = _try

    def _match(self, node: ast.Match) -> None:
        self.evaluate(node.subject)
        self._branches([[case.pattern, *([case.guard] if case.guard else []), *case.body] for case in node.cases],
                       one_is_sure=False)  # fmt: skip

    def _branches(self, branches: Sequence[Sequence[ast.AST]], *, one_is_sure: bool = True) -> None:
        """Paths of which one is taken, or none.

        Args:
            branches: Their statements, and the expressions that are evaluated before those.
            one_is_sure: Whether one is always taken.
        """
        before, touched_before = set(self.bound), set(self.touched)
        touched = set(self.touched)
        ends = [] if one_is_sure else [before]
        for branch in branches:
            self.bound, self.touched = set(before), set(touched_before)
            for part in branch:
                if isinstance(part, ast.stmt):
                    self.block([part])
                else:
                    self.evaluate(part)
            touched |= self.touched
            if not _leaves(branch):
                ends.append(set(self.bound))
        self.bound, self.touched = (set.intersection(*ends) if ends else before), touched

    def _magic(self, node: ast.expr) -> bool:
        """Whether this is a magic or a shell command; then what it reads is noted."""
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            return False
        called = node.func.value
        if not (isinstance(called, ast.Call) and isinstance(called.func, ast.Name) and called.func.id == "get_ipython"):
            return False
        texts = [part.value for part in node.args if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        if len(texts) != len(node.args):
            return False
        name, *rest = texts if node.func.attr.startswith("run_") else ["", *texts]
        if name in _CODE_MAGICS:
            self._code(name, rest)
            return True
        for text in rest:
            for expanded, variable in _EXPANDED.findall(text):
                self.use([variable] if variable else _WORD.findall(expanded), surely=False)
        self.use(rest[0].split() if name and rest else [], surely=False)
        return True

    def _code(self, name: str, texts: Sequence[str]) -> None:
        line, body = (texts[0], texts[1]) if len(texts) > 1 else ("", texts[0] if texts else "")
        if name == "capture":
            self.bind(word for word in line.split() if word.isidentifier())
        try:
            tree = parse_cell(_OPTIONS.sub("", body))
        except UsageError:
            self.use(_WORD.findall(body), surely=False)
            return
        if name == "timeit":  # runs its code in a function
            self.use(names_of_cell(tree).reads)
        else:
            self.block(tree.body)


def _leaves(statements: Sequence[ast.AST]) -> bool:
    return bool(statements) and isinstance(statements[-1], _LEAVES)


def _deleted(target: ast.expr) -> Iterator[str]:
    for node in ast.walk(target):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Del):
            yield node.id


def _names_in_text(node: ast.AST) -> Iterator[str]:
    """The names of `frame.query("age > @limit")`."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and "@" in part.value:
            yield from _QUERY_NAME.findall(part.value)


def _free(node: ast.AST, hidden: frozenset[str] = frozenset(), here: frozenset[str] | None = None) -> set[str]:
    """The global names that a node reads, everything inside of it included.

    Args:
        node: An expression or a statement.
        hidden: Names of the functions around it.
        here: `hidden` and the names of the class whose body this is, which its methods do not see.
    """
    here = hidden if here is None else here
    if isinstance(node, ast.Name):
        return {node.id} - here if isinstance(node.ctx, ast.Load) else set()
    found: set[str] = set()
    if isinstance(node, _SCOPES):
        for part in _evaluated_with(node):
            found |= _free(part, hidden, here)
        if isinstance(node, ast.ClassDef):
            now, later = _free_in_class(node, hidden)
            return found | now | later
        return found | _free_in_function(node, hidden)
    if isinstance(node, _COMPREHENSIONS):
        first = node.generators[0].iter
        inner = hidden | _targets(node)
        found |= _free(first, hidden, here)
        for part in _inside(node):
            if part is not first:
                found |= _free(part, inner)
        return found
    for child in ast.iter_child_nodes(node):
        found |= _free(child, hidden, here)
    return found


def _inside(node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> Iterator[ast.expr]:
    yield from ([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt])
    for generator in node.generators:
        yield from (generator.target, generator.iter, *generator.ifs)


def _targets(node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> frozenset[str]:
    return frozenset(name for generator in node.generators for name in _bindings([generator.target]))


def _evaluated_with(
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef,
) -> Iterator[ast.AST]:
    """What is evaluated when a definition is: decorators, defaults, annotations, bases."""
    if not isinstance(node, ast.Lambda):
        yield from node.decorator_list
    if isinstance(node, ast.ClassDef):
        yield from (*node.bases, *(keyword.value for keyword in node.keywords))
        return
    arguments = node.args
    yield from arguments.defaults
    yield from (default for default in arguments.kw_defaults if default is not None)
    if not isinstance(node, ast.Lambda):
        own = _type_parameters(node)
        for argument in _arguments(arguments):
            if argument.annotation is not None and not _free(argument.annotation) & own:
                yield argument.annotation
        if node.returns is not None and not _free(node.returns) & own:
            yield node.returns


def _arguments(arguments: ast.arguments) -> Iterator[ast.arg]:
    yield from (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    yield from (argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None)


def _type_parameters(node: ast.AST) -> set[str]:
    return {str(parameter.name) for parameter in getattr(node, "type_params", [])}


def _free_in_function(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, hidden: frozenset[str]) -> set[str]:
    body: Sequence[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else node.body
    declared = {name for part in _own(body) if isinstance(part, ast.Global) for name in part.names}
    own = {argument.arg for argument in _arguments(node.args)} | set(_bindings(body)) | _type_parameters(node)
    inner = (hidden | own) - declared
    found: set[str] = set()
    for part in body:
        found |= _free(part, inner)
    # `global total; total += 1` reads it as well, although as the target of an assignment.
    return found | {
        part.target.id
        for part in _own(body)
        if isinstance(part, ast.AugAssign) and isinstance(part.target, ast.Name) and part.target.id in declared
    }


def _free_in_class(node: ast.ClassDef, hidden: frozenset[str]) -> tuple[set[str], set[str]]:
    """What the body of a class reads at once, and what its methods read when they are called."""
    hidden = hidden | _type_parameters(node)
    here = hidden
    now: set[str] = set()
    later: set[str] = set()
    for part in node.body:
        if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)):
            later |= _free_in_function(part, hidden)
            for evaluated in _evaluated_with(part):
                now |= _free(evaluated, hidden, here)
        else:
            now |= _free(part, hidden, here)
        if not isinstance(part, _BRANCHING):  # `rate = rate` reads the global, the next line that of the class
            here = here | set(_bindings([part]))
    return now, later


def _own(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """The nodes of one scope, without those of the functions, classes and lambdas in it."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, _SCOPES):
            waiting.extend(_evaluated_with(node))
        else:
            waiting.extend(ast.iter_child_nodes(node))


def _bindings(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The names that the nodes give a value in the scope that they stand in."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop(0)
        name = getattr(node, "name", None) or getattr(node, "rest", None)
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Store):
                yield node.id
        elif isinstance(node, _SCOPES):
            if not isinstance(node, ast.Lambda):
                yield node.name
            waiting.extend(_evaluated_with(node))
        elif isinstance(node, _COMPREHENSIONS):
            # Their variables are their own; what a `:=` in them names is not.
            waiting.extend(
                part for child in _inside(node) for part in ast.walk(child) if isinstance(part, ast.NamedExpr)
            )
        elif isinstance(node, ast.alias):
            if node.name != "*":
                yield node.asname or node.name.partition(".")[0]
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar, ast.MatchMapping)) and name:
            yield str(name)
            waiting.extend(ast.iter_child_nodes(node))
        else:
            waiting.extend(ast.iter_child_nodes(node))
