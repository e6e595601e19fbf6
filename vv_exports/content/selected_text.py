"""What is chosen of a value's JSON text, without decoding what is kept or left out as it is."""

from typing import Any

import msgspec

from vv_exports.content.pseudonyms import Replacements
from vv_exports.content.rules import MISSING, Action, Rule
from vv_exports.domain.field_paths import ITEMS
from vv_exports.domain.json_text import decode, encode_sorted


def selected_text(text: bytes, rule: Rule, replacements: Replacements) -> bytes | None:
    """The text of what a rule leaves of the value of canonical JSON text (``encode_sorted``), None where nothing is."""
    try:
        selected = _selected(msgspec.Raw(text), rule, replacements)
        return None if selected is MISSING else _ENCODER.encode(selected)
    except (msgspec.DecodeError, RecursionError):  # such as the escape of half a surrogate pair
        value = rule.apply(decode(text), replacements.of_value)
        return None if value is MISSING else encode_sorted(value)


def _selected(raw: msgspec.Raw, rule: Rule, replacements: Replacements) -> Any:
    """See ``Rule.apply``: the same, with raw JSON for values."""
    action = rule.action
    if action is _DROP:
        return MISSING
    if action is _KEEP:
        return raw
    text = bytes(raw)
    if text == b"null":
        return raw
    return _inside(raw, text, rule, replacements) if action is _INSIDE else replacements.of_text(text, action)


def _inside(raw: msgspec.Raw, text: bytes, rule: Rule, replacements: Replacements) -> Any:
    if text[0] == _BRACE:
        return _object(_OBJECT.decode(text), rule, replacements) if rule.takes_objects else MISSING
    if text[0] == _BRACKET:
        return _items(text, rule.child(ITEMS), replacements) if rule.takes_lists else MISSING
    return raw if rule.takes_scalars else MISSING


def _object(values: dict[str, Any], rule: Rule, replacements: Replacements) -> dict[str, Any]:
    for name, inner in rule.touched(tuple(values)):
        selected = MISSING if inner.action is _DROP else _selected(values[name], inner, replacements)
        if selected is MISSING:
            del values[name]
        else:
            values[name] = selected
    return values


def _items(text: bytes, rule: Rule, replacements: Replacements) -> list[Any]:
    if rule.action is _INSIDE and rule.takes_objects:
        try:
            objects = _OBJECTS.decode(text)
        except msgspec.ValidationError:  # not all of them are objects
            pass
        else:
            return [None if values is None else _object(values, rule, replacements) for values in objects]
    items = (_selected(item, rule, replacements) for item in _LIST.decode(text))
    return [None if item is MISSING else item for item in items]


# Looked up for each value: an enum's member is, as a module's name, three times as quick.
_DROP, _KEEP, _INSIDE = Action.DROP, Action.KEEP, Action.INSIDE
_BRACE, _BRACKET = b"{["
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_OBJECTS = msgspec.json.Decoder(list[dict[str, msgspec.Raw] | None])
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_ENCODER = msgspec.json.Encoder()
