"""What a JSON Schema may cost to be checked against. A schema is untrusted input, and a few lines of one can ask for
more work than there is time: that is found out here, from the schema alone, before a document is checked.

Counted is how many schemas look at one value, since time is that times the values of a document. References make them
many: thirty in a chain, each twice, are a thousand million. A schema that refers to itself twice for the same value is
of no bound, as its count doubles with each level of a document.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from vv_exports.domain.json_text import encode_text
from vv_exports.snapshots.json_pointer import tokens

MOST_BYTES = 1 << 20
"""Of a schema as JSON text."""
MOST_LOOKS = 10_000
"""How many schemas may look at one value."""
MOST_LEVELS = 100
"""Of schemas in schemas, as they are written."""

_ALSO = ("not", "if", "then", "else")
_ALSO_EACH = ("allOf", "anyOf", "oneOf")
_ALSO_BY_NAME = ("dependentSchemas", "dependencies")
_OF_SOME = ("contains", "propertyNames")
_OF_OTHERS = ("additionalProperties", "unevaluatedProperties", "additionalItems", "unevaluatedItems")
_KEPT_FOR_REFERENCES = ("$defs", "definitions")
SUBSCHEMAS = frozenset({*_ALSO, *_ALSO_EACH, *_OF_SOME, *_OF_OTHERS, "items", "prefixItems"})
"""The keywords whose values are schemas, or lists of them; beside them are those that hold some by name."""
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


class SchemaLimitError(Exception):
    """A schema that is not checked against; the message says why."""


def check_limits(schema: Any) -> None:
    """Raise SchemaLimitError for a schema that is too large, refers to what is not in it, or has no bound."""
    try:
        size = len(encode_text(schema))
    except ValueError as error:
        raise SchemaLimitError(f"the schema has {error}") from None
    if size > MOST_BYTES:
        raise SchemaLimitError(
            f"the schema is too large to be checked against: {size:,} bytes, of at most {MOST_BYTES:,}"
        )
    if isinstance(schema, dict):
        _Limits(_Resources(schema)).check(schema)


@dataclass
class _Node:
    """One schema. ``also`` look at the same value; ``each`` at every value in it, or some; of ``either`` one looks at a
    value in it."""

    also: "list[_Node]" = field(default_factory=list)
    each: "list[_Node]" = field(default_factory=list)
    either: "list[list[_Node]]" = field(default_factory=list)

    @property
    def inner(self) -> "Iterator[_Node]":
        yield from self.each
        for some in self.either:
            yield from some

    @property
    def all(self) -> "Iterator[_Node]":
        yield from self.also
        yield from self.inner


class _Resources:
    """The schemas of a document by their addresses: the rules of ``$id``, ``$anchor`` and JSON Pointers."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._bases: dict[int, str] = {}
        self._by_address: dict[str, Any] = {"": root}
        self._dynamic: dict[str, list[Any]] = {}
        self._found: dict[tuple[str, str], Any] = {}
        self.add(root, "")

    def add(self, schema: Any, base: str) -> None:
        """Note a schema, and those in it, which a document holds where ``base`` is the address."""
        waiting = [(schema, base, 0)]
        while waiting:
            one, base, level = waiting.pop()
            if not isinstance(one, dict) or id(one) in self._bases:
                continue
            if level > MOST_LEVELS:
                raise SchemaLimitError(f"the schema is nested deeper than {MOST_LEVELS} levels")
            base = self._named(one, base)
            self._bases[id(one)] = base
            waiting += [(inner, base, level + 1) for inner in _written_in(one)]

    def _named(self, one: dict[str, Any], base: str) -> str:
        """Note a schema by the names that it gives itself. Returns its address."""
        for name in ("$id", "id"):
            own = one.get(name)
            if isinstance(own, str) and not ("$ref" in one and name == "id"):
                address, fragment = _joined(base, own)
                if fragment and own.startswith("#"):  # an anchor, as drafts up to 7 write it
                    self._by_address.setdefault(f"{base}#{fragment}", one)
                else:
                    base = address
                    self._by_address.setdefault(base, one)
        for name in ("$anchor", "$dynamicAnchor"):
            if isinstance(one.get(name), str):
                self._by_address.setdefault(f"{base}#{one[name]}", one)
        if isinstance(one.get("$dynamicAnchor"), str):
            self._dynamic.setdefault(one["$dynamicAnchor"], []).append(one)
        if one.get("$recursiveAnchor") is True:
            self._dynamic.setdefault("", []).append(one)
        return base

    def of(self, schema: dict[str, Any], keyword: str) -> list[Any]:
        """The schemas to which a reference may lead. Raises SchemaLimitError where it leaves the document."""
        reference = schema[keyword]
        if not isinstance(reference, str):
            raise SchemaLimitError(f"{keyword} is no text")
        base = self._bases[id(schema)]
        target = self._target(base, reference, keyword)
        if keyword == "$ref":
            return [target]
        name = "" if keyword == "$recursiveRef" else _joined("", reference)[1]
        return [target, *(one for one in self._dynamic.get(name, ()) if one is not target)]

    def _target(self, base: str, reference: str, keyword: str) -> Any:
        if (base, reference) not in self._found:
            self._found[base, reference] = self._looked_up(base, reference, keyword)
        return self._found[base, reference]

    def _looked_up(self, base: str, reference: str, keyword: str) -> Any:
        address, fragment = _joined(base, reference)
        fragment = unquote(fragment)
        if address not in self._by_address:
            raise SchemaLimitError(
                f"{keyword} {reference[:80]!r} leads out of the schema, and nothing is fetched: put what it refers to "
                "into $defs"
            )
        target = self._by_address[address]
        if fragment and not fragment.startswith("/"):
            target = self._by_address.get(f"{address}#{fragment}")
        elif fragment:
            try:
                for token in tokens(fragment):
                    base = self._bases.get(id(target), base)
                    target = target[int(token)] if isinstance(target, list) else target[token]
            except (LookupError, TypeError, ValueError):
                target = None
            else:
                self.add(target, base if isinstance(target, dict) else address)
        if not isinstance(target, dict | bool):
            raise SchemaLimitError(f"{keyword} {reference[:80]!r} leads to no schema")
        return target


def _joined(base: str, reference: str) -> tuple[str, str]:
    """The address to which a reference leads, and its fragment."""
    try:
        # Also to an address without a path, as a URN is one.
        address, fragment = urldefrag(base + reference if reference.startswith("#") else urljoin(base, reference))
    except ValueError as error:
        raise SchemaLimitError(f"{reference[:80]!r} is no address ({error})") from None
    return address, fragment


class _Limits:
    """Counts for one document. What is counted of a schema is counted once, however many refer to it."""

    def __init__(self, resources: _Resources) -> None:
        self._resources = resources
        self._nodes: dict[int, _Node] = {}

    def check(self, root: dict[str, Any]) -> None:
        node = self._graph(root)
        groups = _strong_components(node, lambda one: one.all)
        group_of = {id(one): number for number, group in enumerate(groups) for one in group}
        again: dict[int, int] = {}  # how often a schema leads back to its group for one value, a level further down
        looks: dict[int, int] = {}  # how many schemas look at one value that it looks at
        for group in groups:  # what a schema leads to comes before it
            for one, *more in _by_what_is_also(group, group_of):
                if more or any(other is one for other in one.also):
                    raise SchemaLimitError("the schema contains itself: a value would be looked at without end")
                own = group_of[id(one)]

                def leads_back(other: _Node, own: int = own) -> int:
                    return int(group_of[id(other)] == own)

                def looks_of(other: _Node, own: int = own) -> int:
                    return 0 if group_of[id(other)] == own else looks[id(other)]

                again[id(one)] = _summed(
                    [again[id(other)] * (group_of[id(other)] == own) for other in one.also],
                    one,
                    leads_back,
                )
                if again[id(one)] > 1:
                    raise SchemaLimitError(
                        "the schema refers to itself more than once for the same value, so that the time to check a "
                        "document doubles with each of its levels"
                    )
                looks[id(one)] = 1 + _summed(
                    [looks[id(other)] for other in one.also],
                    one,
                    looks_of,
                )
                if looks[id(one)] > MOST_LOOKS:
                    raise SchemaLimitError(
                        f"the schema is too large to be checked against: with its references unfolded, more than "
                        f"{MOST_LOOKS:,} schemas look at one value"
                    )

    def _graph(self, root: dict[str, Any]) -> _Node:
        waiting: list[Any] = [root]

        def node(schema: Any) -> _Node:
            if not isinstance(schema, dict):
                return _Node()
            if id(schema) not in self._nodes:
                self._nodes[id(schema)] = _Node()
                waiting.append(schema)
            return self._nodes[id(schema)]

        first = node(root)
        seen: set[int] = set()
        while waiting:
            schema = waiting.pop()
            if id(schema) in seen:
                continue
            seen.add(id(schema))
            one = self._nodes[id(schema)]
            one.also = [node(inner) for inner in self._also(schema)]
            one.each = [node(inner) for inner in _of_each(schema)]
            one.either = [[node(inner) for inner in some] for some in _of_either(schema)]
        return first

    def _also(self, schema: dict[str, Any]) -> Iterator[Any]:
        for keyword in _REFERENCES:
            if keyword in schema:
                yield from self._resources.of(schema, keyword)
        yield from (schema[name] for name in _ALSO if name in schema)
        for name in _ALSO_EACH:
            yield from _listed(schema.get(name))
        for name in _ALSO_BY_NAME:
            yield from _named(schema.get(name))


def _of_each(schema: dict[str, Any]) -> Iterator[Any]:
    yield from _named(schema.get("patternProperties"))
    yield from (schema[name] for name in _OF_SOME if name in schema)


def _of_either(schema: dict[str, Any]) -> Iterator[list[Any]]:
    yield from ([one] for one in _named(schema.get("properties")))
    yield from ([one] for one in _listed(schema.get("prefixItems")))
    items = schema.get("items")
    yield from ([one] for one in (_listed(items) if isinstance(items, list) else [items]))
    yield from ([schema[name]] for name in _OF_OTHERS if name in schema)


def _written_in(schema: dict[str, Any]) -> Iterator[Any]:
    """The schemas that stand in one."""
    yield from (schema[name] for name in _ALSO if name in schema)
    for name in _ALSO_EACH:
        yield from _listed(schema.get(name))
    for name in (*_ALSO_BY_NAME, *_KEPT_FOR_REFERENCES):
        yield from _named(schema.get(name))
    yield from _of_each(schema)
    for some in _of_either(schema):
        yield from some


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _named(value: Any) -> Sequence[Any]:
    return list(value.values()) if isinstance(value, Mapping) else ()


def _summed(also: Sequence[int], node: _Node, of_inner: Callable[[_Node], int]) -> int:
    largest = max((sum(map(of_inner, some)) for some in node.either), default=0)
    return sum(also) + sum(map(of_inner, node.each)) + largest


def _by_what_is_also(group: list[_Node], group_of: Mapping[int, int]) -> list[list[_Node]]:
    """The nodes of a group, in groups that look at the same value as each other."""
    own = group_of[id(group[0])]
    found: list[list[_Node]] = []
    done: set[int] = set()

    def also(node: _Node) -> Iterator[_Node]:
        return (other for other in node.also if group_of[id(other)] == own and id(other) not in done)

    for one in group:
        if id(one) not in done:
            for component in _strong_components(one, also):
                found.append(component)
                done.update(map(id, component))
    return found


def _strong_components(root: _Node, edges: Callable[[_Node], Iterable[_Node]]) -> list[list[_Node]]:
    """The nodes that can be reached, in groups that lead to each other; a group comes after those that it leads to.
    Tarjan's algorithm, without recursion: a chain of references may be long."""
    index: dict[int, int] = {id(root): 0}
    low: dict[int, int] = {id(root): 0}
    stack, on_stack = [root], {id(root)}
    found: list[list[_Node]] = []
    work = [(root, iter(edges(root)))]
    while work:
        node, rest = work[-1]
        for other in rest:
            if id(other) not in index:
                index[id(other)] = low[id(other)] = len(index)
                stack.append(other)
                on_stack.add(id(other))
                work.append((other, iter(edges(other))))
                break
            if id(other) in on_stack:
                low[id(node)] = min(low[id(node)], index[id(other)])
        else:
            work.pop()
            if work:
                parent = work[-1][0]
                low[id(parent)] = min(low[id(parent)], low[id(node)])
            if low[id(node)] == index[id(node)]:
                component: list[_Node] = []
                while not component or component[-1] is not node:
                    component.append(stack.pop())
                    on_stack.discard(id(component[-1]))
                found.append(component)
    return found
