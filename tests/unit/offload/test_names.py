"""Which names a cell reads and assigns: cases, and the contract that nothing it reads is missed."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_mlops.errors import UsageError
from jupyter_mlops.offload.names import CellNames, attribute_chains, names_of_cell, parse_cell

BUILTINS = {"print", "range", "len", "open", "sum", "ImportError", "int", "str"}


def names(source: str) -> CellNames:
    return names_of_cell(parse_cell(source))


@pytest.mark.parametrize(
    ("source", "reads", "perhaps", "assigns"),
    [
        ("x = x + 1", "x", "", "x"),
        ("x = 1\nprint(x)", "", "", "x"),
        ("x: int = y", "y", "", "x"),
        ("x: Kind", "Kind", "", ""),
        ("total += part", "total part", "", "total"),
        ("data['a'] = rows\nmodel.rate = 1", "data rows model", "", ""),
        ("a, (b, *c) = pair", "pair", "", "a b c"),
        ("import numpy as np, os.path\nfrom m import f as g\nnp.x(os, g)", "", "", "np os g"),
        ("from m import *\nsqrt(2)", "sqrt", "", ""),
        ("with open(p) as file:\n    text = file.read()\ntext", "p", "", "file text"),
        ("with suppress(OSError):\n    text = read()\ntext", "suppress OSError read", "text", "text"),
        ("for i in items:\n    last = i\nlast", "items", "last", "i last"),
        ("while more():\n    x = 1\nx", "more", "x", "x"),
        ("if ready:\n    x = 1\nelse:\n    x = 2\nx", "ready", "", "x"),
        ("if ready:\n    x = 1\nx", "ready", "x", "x"),
        ("if ready:\n    x = 1\nelse:\n    print(x)", "ready x", "", "x"),
        ("if not ready:\n    raise Stop\nelse:\n    x = 1\nx", "ready Stop", "", "x"),
        ("try:\n    import cudf\nexcept ImportError:\n    cudf = None\ncudf", "", "", "cudf"),
        ("try:\n    x = f()\nexcept E:\n    raise\nx", "f E", "", "x"),
        ("try:\n    x = f()\nexcept E as e:\n    print(e, x)", "f E", "x", "x"),
        ("try:\n    x = f()\nfinally:\n    x.close()", "f", "x", "x"),
        ("del x", "x", "", ""),
        ("x = 1\ndel x\nx", "", "x", ""),
        ("def f(a, b=default) -> Kind:\n    c = a + far\n    return c", "default Kind", "", "f"),
        ("def f():\n    return far\nf()", "far", "", "f"),
        ("def f():\n    return g()\ndef g():\n    return x\nx = 1\nf()", "", "", "f g x"),
        ("def f():\n    return x\nf()\nx = 1", "x", "", "f x"),
        ("@register\ndef f():\n    return far", "register far", "", "f"),
        ("f = lambda a: a + far\nfar = 1\nf(2)", "", "", "f far"),
        ("run(lambda: far)", "run far", "", ""),
        ("def f():\n    global n\n    n += 1\nf()", "n", "", "f"),
        ("def f():\n    x = 1\n    def g():\n        nonlocal x\n        x += y\n    g()\nf()", "y", "", "f"),
        ("class A(Base):\n    a = 1\n    b = a + far\n    def m(self):\n        return a, deep\nA().m()",
         "Base far a deep", "", "A"),
        ("class A:\n    def m(self):\n        return deep", "", "", "A"),
        ("class A:\n    rate = rate\n    twice = 2 * rate\n    def m(self):\n        return twice\nA", "rate twice", "", "A"),
        ("[model for model in models if model.ok(limit)]", "models limit", "", ""),
        ("{k: v for k, v in pairs}", "pairs", "", ""),
        ("[y for x in rows for y in x]", "rows", "", ""),
        ("[last := x for x in rows]\nlast", "rows", "", "last"),
        ("(n := size)\nn", "size", "", "n"),
        ("f'{value:{width}} {other!r}'", "value width other", "", ""),
        ("match point:\n    case {'x': x, **rest} if x > low:\n        y = x\n    case [first, *more]:\n        y = first",
         "point low", "", "x rest y first more"),
        ("await job()\nasync with lock as held:\n    async for x in held:\n        y = x", "job lock", "", "held x y"),
        ("async def f():\n    await far\nawait f()", "far", "", "f"),
        ("df.query('age > @limit and 1')", "df", "limit", ""),
    ],
)  # fmt: skip
def test_a_cell_reads_what_it_has_not_given_a_value_before(source: str, reads: str, perhaps: str, assigns: str) -> None:
    found = names(source)
    assert found.reads - BUILTINS == set(reads.split()) - BUILTINS
    assert found.perhaps == set(perhaps.split())
    assert sorted(found.assigns) == sorted(assigns.split())


@pytest.mark.parametrize(
    ("source", "reads", "perhaps", "assigns"),
    [
        ("%time y = f(x)", "f x", "", "y"),
        ("%%time\ny = f(x)\ny.plot()", "f x", "", "y"),
        ("%timeit -n 10 f(x)", "f x", "", ""),
        ("%%timeit\nz = f(x)", "f x", "", ""),
        ("%%capture out\ny = f(x)", "f x", "", "out y"),
        ("!ls {folder} $pattern", "", "folder pattern", ""),
        ("files = !ls {folder.name}\nfiles", "", "folder name", "files"),
        ("%%bash -s {name}\necho $other", "", "name -s other", ""),
        ("%matplotlib inline\nx", "x", "inline", ""),
    ],
)
def test_magics_read_and_assign_too(source: str, reads: str, perhaps: str, assigns: str) -> None:
    found = names(source)
    assert found.reads - {"get_ipython"} == set(reads.split())
    assert found.perhaps >= {name for name in perhaps.split() if name.isidentifier()}
    assert sorted(found.assigns) == sorted(assigns.split())


@pytest.mark.parametrize("source", ["x = = 1", "return 1", "def f(:", "x = '\0'", "break", "yield 1"])
def test_what_is_no_python_is_refused_with_its_line(source: str) -> None:
    with pytest.raises(UsageError, match="The cell is no Python"):
        parse_cell(source)
    with pytest.raises(UsageError, match=r"line 2"):
        parse_cell("x = 1\nx = = 1")


@pytest.mark.parametrize("source", ["", "   \n", "# only a comment"])
def test_an_empty_cell_is_refused(source: str) -> None:
    with pytest.raises(UsageError, match="empty"):
        parse_cell(source)


def test_dotted_names_are_found_with_their_beginnings() -> None:
    assert attribute_chains(parse_cell("a.b.c(x.y)\nf().z")) == {"a.b", "a.b.c", "x.y"}


VARIABLES = st.sampled_from(["a", "b", "c"])
FUNCTIONS = st.sampled_from(["f", "g"])


def expressions(calls: bool = True) -> st.SearchStrategy[str]:
    leaf = VARIABLES | st.integers(0, 3).map(str)
    forms = [
        leaf,
        st.tuples(leaf, leaf).map(" + ".join),
        st.tuples(VARIABLES, leaf).map("({0[0]} := {0[1]})".format),
        st.tuples(VARIABLES, leaf, leaf).map("sum([{0[0]} + {0[1]} for {0[0]} in ({0[2]}, 1)])".format),
        st.tuples(VARIABLES, leaf, leaf).map("(lambda {0[0]}: {0[0]} + {0[1]})({0[2]})".format),
    ]
    return st.one_of(*forms, *([FUNCTIONS.map("{}()".format)] if calls else []))


def indented(lines: str) -> str:
    return "\n".join(f"    {line}" for line in lines.splitlines())


@st.composite
def definitions(draw: st.DrawFn) -> str:
    # g calls nothing and f calls g at most, so that nothing calls itself.
    name = draw(FUNCTIONS)
    variable, value = draw(VARIABLES), draw(expressions(calls=False))
    if draw(st.booleans()):
        return draw(
            st.sampled_from(
                [
                    f"{name} = lambda: {value}",
                    f"class {name}(int):\n    {variable} = b\n    def __new__(cls): return {value}",
                ]
            )
        )
    first = draw(st.sampled_from(["pass", f"{variable} = 1", f"global {variable}\n    {variable} = {value}"]))
    result = draw(st.sampled_from([value, "g()"])) if name == "f" else value
    return f"def {name}():\n    {first}\n    return {result}"


@st.composite
def blocks(draw: st.DrawFn, depth: int) -> str:
    return "\n".join(draw(statement(depth)) for _ in range(draw(st.integers(1, 4))))


@st.composite
def statement(draw: st.DrawFn, depth: int) -> str:
    kinds = ["assign", "assign", "augment", "delete", "define"]
    kind = draw(st.sampled_from([*kinds, "if", "else", "for", "except", "finally", "match"] if depth else kinds))
    if kind == "define":
        return draw(definitions())
    variable, value = draw(VARIABLES), draw(expressions())
    if kind in ("assign", "augment"):
        return f"{variable} {'=' if kind == 'assign' else '+='} {value}"
    if kind == "delete":
        return f"del {variable}"
    first = indented(draw(blocks(depth - 1)))
    second = indented(draw(blocks(depth - 1)))
    return {
        "if": f"if ({value}) % 2:\n{first}",
        "else": f"if ({value}) % 2:\n{first}\nelse:\n{second}",
        "for": f"for {variable} in range(({value}) % 3):\n{first}",
        "except": f"try:\n{first}\nexcept Exception:\n{second}",
        "finally": f"try:\n{first}\nfinally:\n{second}",
        "match": f"match {value}:\n    case 0: a = 1\n    case {variable}:\n{indented(first)}",
    }[kind]


def executed(source: str, namespace: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    namespace = dict(namespace)
    try:
        exec(source, namespace)
        how = "well"
    except Exception as error:
        how = f"{type(error).__name__}: {error}"
    namespace.pop("__builtins__")
    return how, {name: value for name, value in namespace.items() if isinstance(value, int)}


SESSION = {"a": 1, "b": 2, "c": 3}


@settings(max_examples=60, deadline=None)
@given(blocks(2))
def test_a_cell_does_the_same_with_only_the_names_that_it_reads(source: str) -> None:
    found = names_of_cell(ast.parse(source))
    how, after = executed(source, SESSION)
    sent = {name: value for name, value in SESSION.items() if name in found.reads | found.perhaps}
    how_elsewhere, after_elsewhere = executed(source, sent)
    assert how_elsewhere == how
    # What does not come back is as it was; what the cell deletes stays.
    assert {name: {**SESSION, **after_elsewhere}[name] for name in after} == after


@settings(max_examples=40, deadline=None)
@given(blocks(2))
def test_whatever_the_top_level_changes_is_among_the_names_that_it_assigns(source: str) -> None:
    if "global" in source or "del" in source:
        return
    _, after = executed(source, SESSION)
    changed = {name for name, value in after.items() if SESSION.get(name) != value}
    assert changed <= set(names_of_cell(ast.parse(source)).assigns)
