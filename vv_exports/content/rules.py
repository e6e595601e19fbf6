"""What becomes of the values of each place of a document: kept, left out, hashed, masked, or looked into.

A rule is for one place; ``child`` gives that of a name or of the items in it. It knows no columns and no Arrow.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from vv_exports.domain.field_paths import FieldPath, Items, Step
from vv_exports.domain.names import caseless

_MOST_REMEMBERED = 4_000  # names by rule: an object may be used as a map, with other names in each document


class Action(Enum):
    """What is done with a value."""

    KEEP = "keep"
    DROP = "drop"
    HASH = "hash"
    MASK = "mask"
    INSIDE = "inside"


MISSING: Any = object()
"""In the place of a value that is left out."""


@dataclass
class PathTree:
    """Paths as a tree of their steps. ``end``: what is said of the place itself, which then holds for all below it."""

    end: Action | None = None
    children: dict[Step, "PathTree"] = field(default_factory=dict)

    def add(self, path: FieldPath, action: Action, named: Callable[[str], str] = str) -> None:
        """Say it of a place. What is said of an outer place, or was said before, stays."""
        node = self
        for step in path.steps:
            node = node.children.setdefault(step if isinstance(step, Items) else named(step), PathTree())
        node.end = node.end or action

    @property
    def has_names(self) -> bool:
        """Whether the place is taken for an object."""
        return any(not isinstance(step, Items) for step in self.children)

    @property
    def has_items(self) -> bool:
        """Whether the place is taken for a list."""
        return Items.ALL in self.children


class Rule:
    """The rule of one place. ``include`` is None where all below was chosen, the others where nothing below is named.

    Excluding goes by names as they are written. Redaction is strict: it covers every spelling of a name, and a value
    that has not the structure that its path says is left out, since nobody can know what is in it.
    """

    def __init__(self, include: PathTree | None, exclude: PathTree | None, redact: PathTree | None) -> None:
        self._include = include
        self._exclude = exclude
        self._redact = redact
        self._children: dict[Step, Rule] = {}
        self._touched: dict[tuple[str, ...], list[tuple[str, Rule]]] = {}
        self.action = Action.INSIDE if include or exclude or redact else Action.KEEP
        strict = [tree for tree in (include, redact) if tree]
        self.takes_scalars = not strict
        # A row is an object, though no field of it may be chosen.
        self.takes_objects = all(tree.has_names or not tree.children for tree in strict)
        self.takes_lists = all(tree.has_items for tree in strict)

    def child(self, step: Step) -> "Rule":
        """The rule of the items, or of what has this name."""
        known = self._children.get(step)
        if known is None:
            known = self._child(step)
            if len(self._children) < _MOST_REMEMBERED:
                self._children[step] = known
        return known

    def touched(self, names: tuple[str, ...]) -> list[tuple[str, "Rule"]]:
        """Those of an object's names whose values are not kept as they are, with their rules."""
        known = self._touched.get(names)
        if known is None:
            rules = ((name, self.child(name)) for name in names)
            known = [(name, rule) for name, rule in rules if rule.action is not Action.KEEP]
            if len(self._touched) < _MOST_REMEMBERED:
                self._touched[names] = known
        return known

    def apply(self, value: Any, replaced: Callable[[Any, Action], str]) -> Any:
        """What becomes of a decoded value, or MISSING. ``replaced`` gives the text for a hashed or masked one. Null
        stays null; in a list, null is where an item was left out."""
        match self.action, value:
            case Action.DROP, _:
                return MISSING
            case (Action.KEEP, _) | (_, None):
                return value
            case ((Action.HASH | Action.MASK), _):
                return replaced(value, self.action)
            case _, dict() if self.takes_objects:
                applied = ((name, self.child(name).apply(inner, replaced)) for name, inner in value.items())
                return {name: inner for name, inner in applied if inner is not MISSING}
            case _, list() if self.takes_lists:
                items = (self.child(Items.ALL).apply(item, replaced) for item in value)
                return [None if item is MISSING else item for item in items]
        return value if self.takes_scalars and not isinstance(value, dict | list) else MISSING

    def _child(self, step: Step) -> "Rule":
        if self.action is not Action.INSIDE:
            return self
        include = exclude = redact = None
        if self._include:
            include = self._include.children.get(step)
            if include is None:
                return DROPPED
        if self._exclude:
            exclude = self._exclude.children.get(step)
        if self._redact:
            redact = self._redact.children.get(step if isinstance(step, Items) else caseless(step))
        for tree in (exclude, redact):
            if tree and tree.end:
                return _ENDS[tree.end]
        if include and include.end:
            include = None
        return Rule(include, exclude, redact) if include or exclude or redact else KEPT


def _end(action: Action) -> Rule:
    rule = Rule(None, None, None)
    rule.action = action
    return rule


KEPT = Rule(None, None, None)
DROPPED = _end(Action.DROP)
_ENDS = {Action.DROP: DROPPED, Action.HASH: _end(Action.HASH), Action.MASK: _end(Action.MASK)}


def tree_of(paths: Iterable[tuple[FieldPath, Action]], named: Callable[[str], str] = str) -> PathTree | None:
    """The tree of so many paths, None where there are none."""
    tree = PathTree()
    # Leaving out all items of a list is leaving out the list. The shorter first: what is said of the place itself.
    for path, action in sorted(paths, key=lambda said: len(said[0].steps)):
        steps = path.steps
        while action is Action.DROP and steps[-1] is Items.ALL:
            steps = steps[:-1]
        tree.add(FieldPath(steps), action, named)
    return tree if tree.children else None
