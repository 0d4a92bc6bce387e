"""Hints in a module's code and names, never a verdict of their own.

It reads classes and attribute names and does not depend on values.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

_HINT = re.compile(
    r"scale|temp|tau|gate|gating|gamma|alpha|beta|lambda|lamb|lmbd|logit|sharp|kappa|theta|strength|coef|mix|"
    r"res_?w|skip|sigma|margin|log_?var|eta$|blend|factor|slope|ratio|weighting"
)
_NO_HINT = re.compile(
    r"token|embed|pos_|bias|mask|query|prompt|class|mean|running|center|shift|template|temporal|attempt"
)
_LEARN = re.compile(r"learn(able|ed|ing|s)?(?!_?rate)|trainable")
_SETUP = ("__init__", "reset_parameters", "init_weights", "_init_weights", "extra_repr", "__repr__", "build", "setup")
_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


def is_hint(name: str) -> bool:
    """Whether a name is that of a temperature, a gate or a scale."""
    lower = name.lower()
    return bool(_HINT.search(lower)) and not _NO_HINT.search(lower)


def asks_to_learn(name: str) -> bool:
    """Whether a name says learnable."""
    lower = name.lower()
    return bool(_LEARN.search(lower)) and not re.search(r"learning_?rate", lower)


def is_builtin(module: nn.Module) -> bool:
    """Whether a module is torch's own, whose parameters are not temperatures or gates."""
    kind = type(module)
    if is_parametrized(module):
        kind = kind.__mro__[1]  # torch puts a class of its own in front.
    return kind.__module__.startswith("torch.nn")


def is_container(module: nn.Module) -> bool:
    """Whether a module only holds others, without a forward of its own."""
    return isinstance(module, _CONTAINERS)


def split_owner(model: nn.Module, name: str) -> tuple[str, nn.Module, str]:
    """Return path and module of a tensor's first owner that is not a container, and the attribute's name there."""
    parts = name.split(".")
    modules = dict(model.named_modules(remove_duplicate=False))
    if "parametrizations" in parts and re.fullmatch(r"original\d*", parts[-1]):
        # What x.parametrizations.scale.original is, is x.scale.
        cut = parts.index("parametrizations")
        holder = modules.get(".".join(parts[:cut]))
        if holder is not None and is_parametrized(holder) and cut + 1 < len(parts) - 1:
            return ".".join(parts[:cut]), holder, parts[cut + 1]
    for cut in range(len(parts) - 1, -1, -1):
        path = ".".join(parts[:cut])
        module = modules.get(path)
        if module is not None and not is_container(module):
            return path, module, re.sub(r"\[.*", "", parts[cut])
    return "", model, parts[0]


def learn_flags(module: nn.Module) -> list[str]:
    """Return the names of a module's (or its config's) flags that say learnable and are true."""
    found = []
    for holder in _holders(module):
        for name, value in holder.items():
            if value is True and isinstance(name, str) and asks_to_learn(name):
                found.append(name)
    return found


def _holders(module: nn.Module) -> Iterator[Mapping[str, Any]]:
    own = vars(module)
    yield own
    for name in ("cfg", "config", "args", "opt", "opts", "options", "hparams", "params", "settings"):
        value = own.get(name)
        if isinstance(value, Mapping):
            yield value
        elif value is not None and hasattr(value, "__dict__") and not isinstance(value, nn.Module):
            yield vars(value)


_KINDS = (
    ("temp", "tau", "scale", "logit", "sharp", "kappa"),
    ("gate", "gating", "gamma", "alpha", "theta", "mix", "skip"),
)


def flag_words(flag: str) -> list[str]:
    """Return what a flag such as use_learnable_temp is about, nothing for a bare one such as learnable.

    >>> flag_words("use_learnable_temp"), flag_words("is_trainable")
    (['temp'], [])
    """
    rest = re.sub(r"learn(able|ed|ing|s)?|trainable|use|is|enable|param(eter)?", "", flag.lower()).strip("_")
    return [word for word in rest.split("_") if word]


def flag_is_about(flag: str, attribute: str) -> bool:
    """Whether a flag such as learnable_temp is about an attribute such as logit_scale."""
    words = flag_words(flag)
    name = attribute.lower()
    if not words:
        return is_hint(name)
    if any(word in name or name in word for word in words):
        return True
    return any(
        any(w.startswith(stem) or stem in w for w in words for stem in kind) and any(stem in name for stem in kind)
        for kind in _KINDS
    )


def mentioned(module: nn.Module, attribute: str) -> bool | None:
    """Whether the module's own code reads ``attribute`` anywhere but in its set-up; None where there is no code."""
    known = False
    for kind in type(module).__mro__:
        if kind in (nn.Module, object) or kind.__module__.startswith("torch."):
            continue
        names = _mentions(kind)
        if names is None:
            continue
        known = True
        if attribute in names:
            return True
    return False if known else None


def depends_on_input(module: nn.Module, attribute: str) -> bool:
    """Whether the forward reads ``attribute`` only where a test of its input allows it.

    Such as ``if depth is not None: x = x + self.gate * depth``.  A test of nothing but the module's own attributes is
    not a test of the input.  Methods that the forward calls are followed.
    """
    methods: dict[str, ast.AST] = {}
    for kind in type(module).__mro__:
        if kind not in (nn.Module, object) and not kind.__module__.startswith("torch."):
            methods = {**_methods(kind), **methods}
    reads = _GuardedReads(attribute, methods)
    reads.follow("forward")
    return bool(reads.found) and all(reads.found)


class _GuardedReads(ast.NodeVisitor):
    """Notes by each read of an attribute whether a test of the input guards it."""

    def __init__(self, attribute: str, methods: Mapping[str, ast.AST]) -> None:
        self.found: list[bool] = []
        self._attribute, self._methods = attribute, methods
        self._guarded = False
        self._seen: set[tuple[str, bool]] = set()

    def follow(self, name: str) -> None:
        """Read a method."""
        method = self._methods.get(name)
        if method is not None and (name, self._guarded) not in self._seen:
            self._seen.add((name, self._guarded))
            self._block(getattr(method, "body", []))

    def _choice(self, node: ast.If | ast.IfExp | ast.While) -> None:
        self.visit(node.test)
        before = self._guarded
        self._guarded = before or _asks_input(node.test)
        for part in (node.body, node.orelse):
            self._block(part) if isinstance(part, list) else self.visit(part)
        self._guarded = before

    visit_If = visit_IfExp = visit_While = _choice  # noqa: N815 (the names that ast.NodeVisitor looks for)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """Note the read of an attribute and follow a call of a method."""
        if isinstance(node.ctx, ast.Load) and isinstance(node.value, ast.Name):
            if node.attr == self._attribute:
                self.found.append(self._guarded)
            elif node.value.id == "self":
                self.follow(node.attr)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        """Note a read by name, as getattr does."""
        if node.value == self._attribute:
            self.found.append(self._guarded)

    def generic_visit(self, node: ast.AST) -> None:
        """Visit a node's children, statements as blocks."""
        for _, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                self._block(value)
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    self.visit(child)

    def _block(self, body: list[ast.stmt]) -> None:
        before = self._guarded
        for statement in body:
            self.visit(statement)
            # What comes after an early return depends on its test.
            if isinstance(statement, ast.If) and _asks_input(statement.test):
                ends = [part[-1] for part in (statement.body, statement.orelse) if part]
                self._guarded |= any(isinstance(end, (ast.Return, ast.Continue, ast.Break)) for end in ends)
        self._guarded = before


def _asks_input(test: ast.AST) -> bool:
    """Whether a test reads a name that is neither ``self`` nor a module such as torch."""
    names = [node.id for node in ast.walk(test) if isinstance(node, ast.Name)]
    return any(name not in ("self", "torch", "isinstance", "hasattr", "getattr", "len", "bool") for name in names)


@functools.cache
def _source(kind: type) -> ast.Module | None:
    """Return the code of a class, None where there is none to read."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError, SyntaxError):
        return None


def _methods(kind: type) -> dict[str, ast.AST]:
    tree = _source(kind)
    body = getattr(tree.body[0], "body", []) if tree is not None and tree.body else []
    return {node.name: node for node in body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


@functools.cache
def _mentions(kind: type) -> frozenset[str] | None:
    tree = _source(kind)
    if tree is None:
        return None
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name not in _SETUP:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Load):
                    names.add(inner.attr)
                elif isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                    names.add(inner.value)
    return frozenset(names)
