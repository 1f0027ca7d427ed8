"""Small changes of Python code, one place at a time, that tests should notice."""

import ast
import hashlib
from typing import NamedTuple

OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
COMPARISONS = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OTHER_CALL = {"minimum": "maximum", "maximum": "minimum", "min": "max", "max": "min", "any": "all", "all": "any"}
OTHER_CALL |= {"ceil": "floor", "floor": "ceil", "sum": "mean", "mean": "sum", "argmax": "argmin", "log1p": "log"}
SYMMETRIC = ("minimum", "maximum", "min", "max", "logaddexp", "add", "multiply")
BOUNDS = ("clip", "minimum", "maximum", "min", "max", "abs", "stop_gradient")


class Change(NamedTuple):
    """One change: `old` at characters [start, end) of a file becomes `new`."""

    path: str
    line: int
    start: int
    end: int
    old: str
    new: str
    kind: str

    def apply(self, source):
        return source[: self.start] + self.new + source[self.end :]

    def name(self, source):
        """What stays the same when the lines around it move: the changed line's own text, in its file."""
        first = source.rfind("\n", 0, self.start) + 1
        text = source[first : source.find("\n", self.end)].strip()
        return hashlib.sha256(f"{self.path}|{self.start - first}|{text}|{self.new}".encode()).hexdigest()[:12]


def _called(node):
    """The last name of what is called: `clip` of jnp.clip(x)."""
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def _operators(node):
    if isinstance(node, ast.BinOp):
        if type(node.op) in OPERATORS:
            yield "operator", ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right)
        if isinstance(node.op, (ast.Add, ast.Sub, ast.Mult, ast.Div)):
            yield "dropped term", node.left
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not, ast.Invert)):
        yield "dropped sign", node.operand
    if isinstance(node, ast.BoolOp):
        yield "operator", ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)


def _comparisons(node):
    if isinstance(node, ast.Compare):
        for other in COMPARISONS[type(node.ops[0])]:
            yield "comparison", ast.Compare(node.left, [other(), *node.ops[1:]], node.comparators)
    if isinstance(node, ast.IfExp):
        yield "swapped cases", ast.IfExp(node.test, node.orelse, node.body)


def _constants(node):
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "constant", ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        for value in (node.value + 1, node.value - 1):
            yield "constant", ast.Constant(value)


def _calls(node):
    if not isinstance(node, ast.Call) or any(isinstance(x, ast.Starred) for x in node.args):
        return
    name, arguments = _called(node), node.args
    if name in OTHER_CALL:
        other = ast.parse(ast.unparse(node.func), mode="eval").body
        setattr(other, "attr" if isinstance(other, ast.Attribute) else "id", OTHER_CALL[name])
        yield "other call", ast.Call(other, arguments, node.keywords)
    if name in BOUNDS and arguments:
        yield "dropped bound", arguments[0]
    if name == "fold_in":
        yield "one key", arguments[0]
    if name == "split" and "random" in ast.unparse(node.func):
        yield "one key", ast.parse(f"[{ast.unparse(node)}[0]] * len({ast.unparse(node)})", mode="eval").body
    if name == "where" and len(arguments) == 3:
        yield "swapped cases", ast.Call(node.func, [arguments[0], arguments[2], arguments[1]], node.keywords)
    elif len(arguments) >= 2 and name not in SYMMETRIC:
        yield "swapped arguments", ast.Call(node.func, [arguments[1], arguments[0], *arguments[2:]], node.keywords)


def _expressions(tree):
    """Every expression that runs: no annotation, docstring, message of an error or dataclass's option."""
    skipped = set()
    for node in ast.walk(tree):
        hidden = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        hidden += [node.exc] if isinstance(node, ast.Raise) else []
        hidden += [x for x in getattr(node, "decorator_list", ()) if "dataclass" in ast.unparse(x)]
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            hidden.append(node.value)
        if isinstance(node, ast.JoinedStr):
            hidden.append(node)
        skipped.update(id(x) for part in hidden if part is not None for x in ast.walk(part))
    return [node for node in ast.walk(tree) if isinstance(node, (ast.expr, ast.If)) and id(node) not in skipped]


def changes_of(path: str, source: str, function: str | None = None) -> list[Change]:
    """Every Change of a file, or of one function in it, in order of place."""
    lines = [0]
    for line in source.encode().splitlines(keepends=True):
        lines.append(lines[-1] + len(line))

    def place(row, column):
        """Characters before a place that the parser gives as a line and bytes of it."""
        return len(source.encode()[: lines[row - 1] + column].decode())

    found, tree = [], ast.parse(source)
    if function:
        tree = next(x for x in ast.walk(tree) if isinstance(x, ast.FunctionDef) and x.name == function)
    for node in _expressions(tree):
        if isinstance(node, ast.If):
            target, ways = node.test, [("check never made", ast.Constant(False))]
        else:
            target = node
            ways = [way for make in (_operators, _comparisons, _constants, _calls) for way in make(node)]
        start, end = place(target.lineno, target.col_offset), place(target.end_lineno, target.end_col_offset)
        old = source[start:end]
        for kind, new in ways:
            text = f"({ast.unparse(ast.fix_missing_locations(new))})"
            if ast.dump(ast.parse(text)) != ast.dump(ast.parse(f"({old})")):
                found.append(Change(str(path), target.lineno, start, end, old, text, kind))
    return sorted(found, key=lambda change: (change.start, change.end, change.new))
