"""What a name in a module stands for: the SDK, one of its functions, a span, or something that starts spans."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

__all__ = ["SPAN", "STARTER", "Function", "Names", "last_name", "walk_own"]

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Scope: TypeAlias = ast.Module | ast.ClassDef | ast.Lambda | Function

SPAN, STARTER = "span", "starter"
"""An object that is a span, and one that only starts spans: a logger or an experiment."""

_MADE_BY = {
    "start_span": SPAN, "current_span": SPAN, "init_logger": STARTER, "init_experiment": STARTER, "init": STARTER,
    "current_logger": STARTER, "current_experiment": STARTER,
}
_ANNOTATED = {"Span": SPAN, "SpanImpl": SPAN, "Logger": STARTER, "Experiment": STARTER}
# What other tracing libraries call `start_span` on.
_OTHERS = re.compile(
    r"opentelemetry|otel|mlflow|ddtrace|datadog|langfuse|sentry|opentracing|logfire|tracer", re.IGNORECASE
)
_LIKELY = re.compile(r"logger|span|experiment|braintrust|^_?bt(_|$)", re.IGNORECASE)
_HANDED = re.compile(r"(^|_)span$")
# Deep enough for real code; stops at names that are defined by themselves.
_DEPTH = 8


class _Binding(NamedTuple):
    """What a name is bound to: an import by its dotted name, or the value or the annotation of an assignment."""

    imported: str | None = None
    value: ast.expr | None = None
    annotation: ast.expr | None = None
    function: Function | None = None
    parameter: str | None = None


class Names:
    """The scopes of a module, and what its expressions stand for.

    Attributes:
        file: the name of the module's file.
        parents: the node that each node is part of.
        functions: all functions, the outermost first.
        roots: the packages that it imports.
        uses_sdk: the module imports the SDK, or has it as a parameter.
    """

    def __init__(self, module: ast.Module, file: str) -> None:
        self.module = module
        self.file = file
        self.parents: dict[ast.AST, ast.AST] = {}
        self.functions: list[Function] = []
        self.uses_sdk = False
        self.imports: set[str] = set()
        self._bindings: dict[Scope, dict[str, list[_Binding]]] = {module: {}}
        self._attributes: dict[str, list[_Binding]] = {}
        nodes = list(ast.walk(module))
        for node in nodes:
            for child in ast.iter_child_nodes(node):
                self.parents[child] = node
        self._global_names = {
            (self.scope_of(node), name) for node in nodes if isinstance(node, ast.Global) for name in node.names
        }
        for node in nodes:
            self._bind(node)
        self.functions.sort(key=lambda function: (function.lineno, function.col_offset))
        self.roots = {name.partition(".")[0] for name in self.imports}
        self.other_tracers = any(_OTHERS.search(name) for name in self.imports)

    # --- scopes

    def scope_of(self, node: ast.AST) -> Scope:
        """The function, class or module whose code the node is."""
        at = self.parents.get(node)
        while at is not None and not isinstance(at, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            at = self.parents.get(at)
        return at if at is not None else self.module

    def statement_of(self, node: ast.AST) -> ast.stmt:
        """The innermost statement that the node is part of."""
        while not isinstance(node, ast.stmt):
            node = self.parents[node]
        return node

    def _bind(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                self.imports.add(alias.name)
                name = alias.asname or alias.name.partition(".")[0]
                self._add(node, name, _Binding(imported=alias.name if alias.asname else name))
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            self.imports.add(base)
            for alias in node.names:
                self._add(node, alias.asname or alias.name, _Binding(imported=f"{base}.{alias.name}"))
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                self._add_target(node, target, _Binding(value=node.value))
        elif isinstance(node, ast.AnnAssign):
            self._add_target(node, node.target, _Binding(value=node.value, annotation=node.annotation))
        elif isinstance(node, ast.NamedExpr):
            self._add_target(node, node.target, _Binding(value=node.value))
        elif isinstance(node, (ast.With, ast.AsyncWith)):
            for item in node.items:
                if item.optional_vars is not None:
                    self._add_target(node, item.optional_vars, _Binding(value=item.context_expr))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            self.functions.append(node)
            self._add(node, node.name, _Binding(function=node))
            self._bind_parameters(node)
        elif isinstance(node, ast.ClassDef):
            self._bindings.setdefault(node, {})
            self._add(node, node.name, _Binding())
        elif isinstance(node, ast.Lambda):
            self._bind_parameters(node)
        elif isinstance(node, (ast.For, ast.AsyncFor)):
            self._add_target(node, node.target, _Binding())
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            self.uses_sdk = self.uses_sdk or any(name.split(".")[0] == "braintrust" for name in self.imports)

    def _bind_parameters(self, node: Function | ast.Lambda) -> None:
        own = self._bindings.setdefault(node, {})
        given = node.args
        extra = [argument for argument in (given.vararg, given.kwarg) if argument is not None]
        for argument in [*given.posonlyargs, *given.args, *given.kwonlyargs, *extra]:
            own.setdefault(argument.arg, []).append(_Binding(annotation=argument.annotation, parameter=argument.arg))
            self.uses_sdk = self.uses_sdk or argument.arg == "braintrust"

    def _add_target(self, node: ast.AST, target: ast.expr, binding: _Binding) -> None:
        if isinstance(target, ast.Name):
            self._add(node, target.id, binding)
        elif isinstance(target, ast.Attribute):
            self._attributes.setdefault(target.attr, []).append(binding)
        elif isinstance(target, (ast.Tuple, ast.List)):
            for element in target.elts:
                self._add_target(node, element, _Binding())

    def _add(self, node: ast.AST, name: str, binding: _Binding) -> None:
        scope = self.scope_of(node)
        owner = self.module if (scope, name) in self._global_names else scope
        self._bindings.setdefault(owner, {}).setdefault(name, []).append(binding)

    def _found(self, name: str, scope: Scope) -> list[_Binding]:
        at: Scope | None = scope
        while at is not None:
            # The names of a class can't be seen in its methods.
            if name in self._bindings.get(at, {}) and (at is scope or not isinstance(at, ast.ClassDef)):
                return self._bindings[at][name]
            at = self.scope_of(at) if at is not self.module else None
        return []

    def function_of(self, call: ast.Call) -> Function | None:
        """The function of this module that is called by its name or as a method of ``self``."""
        called = call.func
        if isinstance(called, ast.Name):
            return self.function_named(called.id, self.scope_of(call))
        if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id == "self":
            for function in self.functions:
                if function.name == called.attr and isinstance(self.parents[function], ast.ClassDef):
                    return function
        return None

    def function_named(self, name: str, scope: Scope) -> Function | None:
        """The function of this module that a name stands for."""
        return next((binding.function for binding in self._found(name, scope) if binding.function is not None), None)

    # --- what an expression stands for

    def dotted(self, node: ast.expr, depth: int = 0) -> str | None:
        """The dotted name of something imported, such as ``braintrust.start_span``, whatever its alias is."""
        if isinstance(node, ast.Attribute):
            base = self.dotted(node.value, depth)
            return f"{base}.{node.attr}" if base else None
        if isinstance(node, ast.Call) and node.args and depth <= _DEPTH and (
            self.dotted(node.func, depth + 1) or ""
        ).endswith("import_module"):
            named = node.args[0]
            return named.value if isinstance(named, ast.Constant) and isinstance(named.value, str) else None
        if not isinstance(node, ast.Name) or depth > _DEPTH:
            return None
        bindings = self._found(node.id, self.scope_of(node))
        for binding in bindings:
            if binding.imported is not None:
                return binding.imported
        for binding in bindings:
            if binding.value is not None and isinstance(binding.value, (ast.Name, ast.Attribute, ast.Call)):
                found = self.dotted(binding.value, depth + 1)
                if found and not isinstance(binding.value, ast.Call):
                    return found
                if found and not found.startswith("importlib"):
                    return found
        if node.id == "braintrust" and all(binding.parameter for binding in bindings):
            return "braintrust"
        return None

    def value_of(self, node: ast.expr) -> ast.expr | None:
        """What a name is first set to."""
        if not isinstance(node, ast.Name):
            return None
        found = self._found(node.id, self.scope_of(node))
        return next((binding.value for binding in found if binding.value is not None), None)

    def sdk_name(self, node: ast.expr) -> str | None:
        """The name of a public function or class of the SDK: ``start_span``."""
        name = self.dotted(node)
        if name is None or name.split(".")[0] != "braintrust" or "." not in name:
            return None
        return name.rpartition(".")[2]

    def is_start(self, node: ast.AST, depth: int = 0) -> bool:
        """The node is a call that starts a span."""
        if not isinstance(node, ast.Call):
            return False
        if self.sdk_name(node.func) == "start_span":
            return True
        if not isinstance(node.func, ast.Attribute) or node.func.attr != "start_span":
            return False
        receiver = node.func.value
        if self.kind(receiver, depth + 1) is not None:
            return True
        dotted = self.dotted(receiver)
        if self.other_tracers or (dotted and _OTHERS.search(dotted)):
            return False
        if not self.uses_sdk:
            return isinstance(receiver, ast.Name) and self._is_handed_span(receiver)
        # It comes from elsewhere. Its name decides.
        name = receiver.attr if isinstance(receiver, ast.Attribute) else getattr(receiver, "id", "")
        return bool(_LIKELY.search(name)) and not _OTHERS.search(name)

    def _is_handed_span(self, name: ast.Name) -> bool:
        """A parameter called `span` or `..._span`, in a module that need not import the SDK."""
        bindings = self._found(name.id, self.scope_of(name))
        return bool(_HANDED.search(name.id)) and any(binding.parameter for binding in bindings)

    def kind(self, node: ast.expr | None, depth: int = 0) -> str | None:
        """:data:`SPAN`, :data:`STARTER`, or None if it is neither or is not known."""
        if node is None or depth > _DEPTH:
            return None
        if isinstance(node, (ast.Await, ast.NamedExpr)):
            return self.kind(node.value, depth + 1)
        if isinstance(node, ast.IfExp):
            return self.kind(node.body, depth + 1) or self.kind(node.orelse, depth + 1)
        if isinstance(node, ast.BoolOp):
            return next(filter(None, (self.kind(value, depth + 1) for value in node.values)), None)
        if isinstance(node, ast.Call):
            return self._kind_of_call(node, depth)
        if isinstance(node, ast.Name):
            found = (self._kind_of_binding(binding, depth + 1) for binding in self._found(node.id, self.scope_of(node)))
            return next(filter(None, found), None)
        if isinstance(node, ast.Attribute):
            if node.attr == "span" and isinstance(node.value, ast.Name) and node.value.id == "hooks":
                return SPAN  # of `EvalHooks`, which an evaluation's task is called with
            found = (self._kind_of_binding(binding, depth + 1) for binding in self._attributes.get(node.attr, ()))
            return next(filter(None, found), None)
        return None

    def _kind_of_call(self, node: ast.Call, depth: int) -> str | None:
        made = _MADE_BY.get(self.sdk_name(node.func) or "")
        if made is not None:
            return made
        if isinstance(node.func, ast.Attribute):
            if self.is_start(node, depth):
                return SPAN
            if node.func.attr == "__enter__":
                return self.kind(node.func.value, depth + 1)
        function = self.function_of(node)
        if function is None:
            return None
        annotated = self._kind_of_annotation(function.returns)
        if annotated is not None:
            return annotated
        returns = (child.value for child in walk_own(function) if isinstance(child, ast.Return))
        return next(filter(None, (self.kind(value, depth + 1) for value in returns)), None)

    def _kind_of_binding(self, binding: _Binding, depth: int) -> str | None:
        return self.kind(binding.value, depth) or self._kind_of_annotation(binding.annotation)

    def _kind_of_annotation(self, node: ast.expr | None) -> str | None:
        if node is None:
            return None
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                text = ast.parse(node.value, mode="eval").body
            except (SyntaxError, ValueError):
                return None
            for child in ast.walk(text):
                for inner in ast.iter_child_nodes(child):
                    self.parents.setdefault(inner, child)
            self.parents.setdefault(text, node)
            return self._kind_of_annotation(text)
        for child in ast.walk(node):
            if isinstance(child, (ast.Name, ast.Attribute)):
                kind = _ANNOTATED.get(self.sdk_name(child) or "")
                if kind is not None:
                    return kind
        return None


def walk_own(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes within a function or statement, in the order of the source, without nested functions and classes."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            yield child
            yield from walk_own(child)


def last_name(node: ast.AST) -> str:
    """``c`` of ``a.b.c`` and of ``a.b.c()``; empty if there is none."""
    if isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
