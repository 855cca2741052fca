"""Conditions on columns as text, such as ``pb_pct_J_16.p50 > 0.9 and snr_B > 20``: parsed, checked, never evaluated.

Python's parser makes a tree, and each kind of node that is known here becomes a NumPy operation; all others are refused
by name. Nothing that a text says can reach anything but the columns of the catalog, whose names and kinds are known
before a row is read. Comparisons go by the column's own precision, arithmetic by float64.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.catalog.blockwise import Columns
from twinlines.pipeline.catalog.errors import CatalogError
from twinlines.pipeline.schema import Quality

LONGEST = 2000
"""Characters of the longest expression."""

DEEPEST = 50
"""Levels of the deepest one."""


class ExpressionError(CatalogError):
    """An expression is not one of the catalog's columns."""


class Kind(Enum):
    """What values are; what they are called in messages."""

    NUMBER = "a number"
    FLAGS = "bits"
    BOOL = "true or false"
    TEXT = "text"


@dataclass(frozen=True)
class ColumnKind:
    """A column, as an expression sees it."""

    kind: Kind
    """What its values are."""
    labels: tuple[int, ...] | None = None
    """Percentiles, of a column that has several values a row."""


@dataclass(frozen=True)
class Expression:
    """A condition on columns."""

    text: str
    """As it was written."""
    columns: tuple[str, ...]
    """Columns that it names, in the order in which they first appear."""
    _of: Callable[[Columns], Any]

    def __call__(self, columns: Columns) -> NDArray[np.bool_]:
        """Whether it holds, for each row of some columns, shape (row,); comparisons with NaN do not."""
        with np.errstate(all="ignore"):
            return np.asarray(self._of(columns), np.bool_)


@dataclass(frozen=True)
class _Node:
    kind: Kind
    of: Callable[[Columns], Any]
    constant: Any = None
    bits: bool = False  # made by a bit operation


_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.mod,
    ast.Pow: np.power,
}
_BITS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.BitAnd: np.bitwise_and,
    ast.BitOr: np.bitwise_or,
    ast.BitXor: np.bitwise_xor,
}
_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: lambda left, right: (left != right) & _known(left) & _known(right),
}
_FUNCTIONS: Mapping[str, tuple[int, Kind, Callable[..., Any]]] = {
    "isnan": (1, Kind.BOOL, np.isnan),
    "isfinite": (1, Kind.BOOL, np.isfinite),
    "abs": (1, Kind.NUMBER, np.abs),
    "sqrt": (1, Kind.NUMBER, np.sqrt),
    "log10": (1, Kind.NUMBER, np.log10),
    "min": (2, Kind.NUMBER, np.minimum),
    "max": (2, Kind.NUMBER, np.maximum),
}
_FLAG_NAMES = {str(bit.name): int(bit) for bit in Quality if bit}
_ALL_BITS = (1 << 64) - 1
_MISSING = "equals nothing; isnan(column) says whether a value is missing"
_AND = "between conditions write 'and' or 'or', not '&' or '|'"


def parse(text: str, columns: Mapping[str, ColumnKind]) -> Expression:
    """Parse a condition.

    Parameters
    ----------
    text
        Names of columns; numbers; texts in quotes; comparisons, also chained and with ``in``; ``and``, ``or``, ``not``;
        ``+ - * / // % **``; ``& | ^ ~`` of flags, whose bits have the names of :class:`.Quality`; isnan, isfinite, abs,
        sqrt, log10, min and max. A column of several percentiles is followed by the place, ``[0]``, or the percentile,
        ``.p50``.
    columns
        Columns that there are.

    Raises
    ------
    ExpressionError
        If it is too long or too deep, or says anything else: what, and where.
    """
    if len(text) > LONGEST:
        raise ExpressionError(f"the expression has {len(text)} characters; the longest that is taken has {LONGEST}")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        at = f" at character {error.offset}" if error.offset else ""
        raise ExpressionError(f"{text!r} is no expression: {error.msg}{at}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError(f"{_short(text)} is no expression: {error or 'it is too deep'}") from error
    compiler = _Compiler(text, columns)
    of = compiler.condition(tree.body, 0).of
    if not compiler.named:
        raise ExpressionError(f"{text!r} names no column, so that it holds for all rows or none")
    return Expression(text, tuple(compiler.named), of)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


class _Compiler:
    def __init__(self, text: str, columns: Mapping[str, ColumnKind]) -> None:
        self._text, self._columns = text, columns
        self.named: dict[str, None] = {}

    def condition(self, tree: ast.expr, depth: int) -> _Node:
        """A part that is true or false."""
        node = self.node(tree, depth)
        if node.kind is Kind.BOOL:
            return node
        if node.kind is Kind.FLAGS:  # any of the bits
            return _Node(Kind.BOOL, lambda columns: node.of(columns) != 0)
        raise self._error(tree, f"is {node.kind.value}, and no condition; compare it with something")

    def node(self, tree: ast.expr, depth: int) -> _Node:
        """Any part."""
        if depth > DEEPEST:
            raise ExpressionError(f"{_short(self._text)} is nested more than {DEEPEST} levels deep; write it in parts")
        handler = getattr(self, f"_{type(tree).__name__.lower()}", None)
        if handler is None:
            raise self._error(
                tree, f"is not known here ({type(tree).__name__}); conditions are made of columns and numbers"
            )
        made: _Node = handler(tree, depth + 1)
        return made

    def _constant(self, tree: ast.Constant, _: int) -> _Node:
        value = tree.value
        if isinstance(value, bool):
            return _Node(Kind.BOOL, lambda _: value, value)
        if isinstance(value, str):
            return _Node(Kind.TEXT, lambda _: value, value)
        if isinstance(value, int | float):
            if abs(value) > _ALL_BITS and not (isinstance(value, float) and value < float("inf")):
                raise self._error(tree, "is too large a number")
            return _Node(Kind.NUMBER, lambda _: value, value)
        if value is None:
            raise self._error(tree, _MISSING)
        raise self._error(tree, "is no number and no text")

    def _name(self, tree: ast.Name, _: int) -> _Node:
        name = tree.id
        if name in self._columns:
            column = self._columns[name]
            if column.labels is not None:
                raise self._error(tree, f"has {len(column.labels)} values a row; write {_places(name, column.labels)}")
            self.named[name] = None
            if column.kind is Kind.FLAGS:
                return _Node(Kind.FLAGS, lambda columns: columns[name].astype(np.uint64))
            return _Node(column.kind, lambda columns: columns[name])
        if name in _FLAG_NAMES:
            bit = _FLAG_NAMES[name]
            return _Node(Kind.FLAGS, lambda _: np.uint64(bit), bit)
        if name in ("nan", "NaN", "null"):
            raise self._error(tree, _MISSING)
        known = [*self._columns, *_FLAG_NAMES, *_FUNCTIONS]
        folded = {one.lower(): one for one in known}
        close = [folded[match] for match in get_close_matches(name.lower(), folded, n=3, cutoff=0.6)]
        hint = f"did you mean {' or '.join(close)}?" if close else f"the columns are {', '.join(self._columns)}"
        raise self._error(tree, f"is no column of the catalog; {hint}")

    def _several(self, tree: ast.expr, whole: ast.expr) -> tuple[str, tuple[int, ...]]:
        """The column, and its percentiles, that a place or a percentile is asked of."""
        if not isinstance(whole, ast.Name):
            raise self._error(tree, "is not known here; only a column that has several values a row takes a place")
        column = self._columns.get(whole.id)
        if column is None:
            self._name(whole, 0)  # says that there is none
        if column is None or column.labels is None:
            raise self._error(tree, f"asks for one of several values, and {whole.id} has one a row; write {whole.id}")
        self.named[whole.id] = None
        return whole.id, column.labels

    def _subscript(self, tree: ast.Subscript, _: int) -> _Node:
        name, labels = self._several(tree, tree.value)
        place = tree.slice.value if isinstance(tree.slice, ast.Constant) else None
        if not isinstance(place, int) or isinstance(place, bool) or not 0 <= place < len(labels):
            raise self._error(
                tree, f"is no value of {name}, which has {len(labels)} a row; write {_places(name, labels)}"
            )
        return _Node(Kind.NUMBER, lambda columns: columns[name][:, place])

    def _attribute(self, tree: ast.Attribute, _: int) -> _Node:
        name, labels = self._several(tree, tree.value)
        names = [f"p{label}" for label in labels]
        if tree.attr not in names:
            raise self._error(tree, f"is no percentile of {name}; write {_places(name, labels)}")
        place = names.index(tree.attr)
        return _Node(Kind.NUMBER, lambda columns: columns[name][:, place])

    def _boolop(self, tree: ast.BoolOp, depth: int) -> _Node:
        parts = [self.condition(part, depth).of for part in tree.values]
        join = np.logical_and if isinstance(tree.op, ast.And) else np.logical_or
        return _Node(Kind.BOOL, lambda columns: reduce(join, (part(columns) for part in parts)))

    def _unaryop(self, tree: ast.UnaryOp, depth: int) -> _Node:
        if isinstance(tree.op, ast.Not):
            part = self.condition(tree.operand, depth)
            return _Node(Kind.BOOL, lambda columns: np.logical_not(part.of(columns)))
        inner = self.node(tree.operand, depth)
        if isinstance(tree.op, ast.Invert):
            if inner.kind is Kind.BOOL:
                return _Node(Kind.BOOL, lambda columns: np.logical_not(inner.of(columns)))
            if inner.kind is Kind.FLAGS:
                return _Node(Kind.FLAGS, lambda columns: np.bitwise_not(inner.of(columns)), bits=True)
            raise self._error(tree, f"turns bits around, and that is {inner.kind.value}; for a condition write 'not'")
        if inner.kind is not Kind.NUMBER:
            raise self._error(tree, f"needs a number, and that is {inner.kind.value}")
        sign = -1 if isinstance(tree.op, ast.USub) else 1
        if inner.constant is not None:
            value = sign * inner.constant
            return _Node(Kind.NUMBER, lambda _: value, value)
        return _Node(Kind.NUMBER, lambda columns: sign * _float(inner.of(columns)))

    def _binop(self, tree: ast.BinOp, depth: int) -> _Node:
        left, right = self.node(tree.left, depth), self.node(tree.right, depth)
        kinds = {left.kind, right.kind}
        if type(tree.op) in _ARITHMETIC:
            calculate = _ARITHMETIC[type(tree.op)]
            if kinds != {Kind.NUMBER}:
                raise self._error(
                    tree, f"calculates with {left.kind.value} and {right.kind.value}; it needs two numbers"
                )
            return _Node(Kind.NUMBER, lambda columns: calculate(_float(left.of(columns)), _float(right.of(columns))))
        if type(tree.op) not in _BITS:
            raise self._error(tree, f"is not known here ({type(tree.op).__name__})")
        combine = _BITS[type(tree.op)]
        if kinds == {Kind.BOOL}:
            return _Node(Kind.BOOL, lambda columns: combine(left.of(columns), right.of(columns)), bits=True)
        first, second = self._as_bits(tree, left), self._as_bits(tree, right)
        if Kind.FLAGS not in kinds:
            raise self._error(tree, f"combines bits, and neither side has flags; {_AND}")
        return _Node(Kind.FLAGS, lambda columns: combine(first(columns), second(columns)), bits=True)

    def _as_bits(self, tree: ast.expr, node: _Node) -> Callable[[Columns], Any]:
        if node.kind is Kind.FLAGS:
            return node.of
        if node.kind is Kind.NUMBER and isinstance(node.constant, int) and 0 <= node.constant <= _ALL_BITS:
            bits = np.uint64(node.constant)
            return lambda _: bits
        raise self._error(tree, f"combines bits, and one side is {node.kind.value}; {_AND}")

    def _compare(self, tree: ast.Compare, depth: int) -> _Node:
        sides = [tree.left, *tree.comparators]
        first = self.node(tree.left, depth)
        left, parts = first, []
        for how, side in zip(tree.ops, tree.comparators, strict=True):
            if isinstance(how, ast.In | ast.NotIn):
                parts.append(self._membership(tree, left, how, side, depth))
                continue
            right = self.node(side, depth)
            self._require_comparable(tree, left, how, right)
            if len(tree.ops) > 1 and any(isinstance(one, ast.BinOp) and type(one.op) in _BITS for one in sides):
                raise self._error(tree, f"compares bits in a chain; {_AND}")
            compare = _COMPARISONS[type(how)]
            parts.append(_pair(compare, left.of, right.of))
            left = right
        return _Node(Kind.BOOL, lambda columns: reduce(np.logical_and, (part(columns) for part in parts)))

    def _require_comparable(self, tree: ast.expr, left: _Node, how: ast.cmpop, right: _Node) -> None:
        if type(how) not in _COMPARISONS:
            raise self._error(tree, "is not known here ('is'); write ==, or isnan(column)")
        numbers = (Kind.NUMBER, Kind.FLAGS)
        equal = isinstance(how, ast.Eq | ast.NotEq)
        for one, other in ((left, right), (right, left)):
            if one.bits and one.kind is Kind.FLAGS and other.kind is Kind.NUMBER and other.constant is None:
                raise self._error(tree, f"compares bits with a column of numbers; {_AND}")
        if left.kind in numbers and right.kind in numbers:
            return
        if left.kind is right.kind and equal:
            return
        if equal and any(
            one.kind is Kind.BOOL and other.kind is Kind.NUMBER and other.constant in (0, 1)
            for one, other in ((left, right), (right, left))
        ):
            return
        if left.kind is right.kind:
            raise self._error(tree, f"asks which {left.kind.value} is more; only == and != are known of it")
        raise self._error(tree, f"compares {left.kind.value} with {right.kind.value}")

    def _membership(
        self, tree: ast.expr, left: _Node, how: ast.cmpop, side: ast.expr, depth: int
    ) -> Callable[[Columns], Any]:
        if not isinstance(side, ast.Tuple | ast.List | ast.Set) or not side.elts:
            raise self._error(tree, "looks in something that is no list; write column in (1, 2, 3)")
        nodes = [self.node(one, depth) for one in side.elts]
        for one in nodes:
            if one.constant is None:
                raise self._error(tree, "looks in a list that does not hold numbers or texts alone")
            self._require_comparable(tree, left, ast.Eq(), one)
        values = [one.constant for one in nodes]
        inverted = isinstance(how, ast.NotIn)

        def of(columns: Columns) -> Any:
            have = left.of(columns)
            found = np.logical_or.reduce([have == value for value in values])
            return np.logical_not(found) & _known(have) if inverted else found

        return of

    def _call(self, tree: ast.Call, depth: int) -> _Node:
        name = tree.func.id if isinstance(tree.func, ast.Name) else None
        if name is None or name not in _FUNCTIONS:
            close = "".join(f"did you mean {one}? " for one in get_close_matches(name or "", _FUNCTIONS, n=1))
            all_ = f"the functions that are known here are {', '.join(_FUNCTIONS)}"
            raise self._error(tree, f"calls something; {close}{all_}")
        count, kind, function = _FUNCTIONS[name]
        if tree.keywords or len(tree.args) != count or any(isinstance(one, ast.Starred) for one in tree.args):
            raise self._error(tree, f"does not fit: {name} takes {count} value{'s' if count > 1 else ''}")
        nodes = [self.node(one, depth) for one in tree.args]
        for one in nodes:
            if one.kind is not Kind.NUMBER:
                raise self._error(tree, f"needs a number, and that is {one.kind.value}")
        return _Node(kind, lambda columns: function(*(_float(one.of(columns)) for one in nodes)))

    def _error(self, tree: ast.expr, why: str) -> ExpressionError:
        part = ast.get_source_segment(self._text.strip(), tree) or self._text
        return ExpressionError(f"{_short(part)} {why}")


def _float(value: Any) -> Any:
    return np.asarray(value, np.float64)


def _known(value: Any) -> Any:
    """Where a value is not missing; only numbers that are no whole ones can be."""
    return np.equal(value, value) if np.asarray(value).dtype.kind == "f" else True


def _pair(
    compare: Callable[[Any, Any], Any], left: Callable[[Columns], Any], right: Callable[[Columns], Any]
) -> Callable[[Columns], Any]:
    return lambda columns: compare(left(columns), right(columns))


def _places(name: str, labels: tuple[int, ...]) -> str:
    last = len(labels) - 1
    return f"{name}[0] to {name}[{last}], or {', '.join(f'{name}.p{label}' for label in labels)}"
