"""What may be said of fields: which paths may be left out or redacted, and which contradict each other."""

from collections.abc import Iterable, Iterator
from itertools import chain

from vv_exports.domain.content_options import ContentOptions, RedactionMethod
from vv_exports.domain.field_paths import FieldPath, Items, Step, parse_path
from vv_exports.domain.names import caseless
from vv_exports.errors import SelectionError

KEPT_NAMES = frozenset({"index_id", "prompt_id", "prompt_run_id", "absent"})
"""Columns that every file has: whose rows they are, and what tells null from absent."""
RESCUED = "rescued"


def check_field_rules(options: ContentOptions) -> None:
    """Raise SelectionError, which lists everything that is wrong with the choice of fields and with redaction."""
    problems = list(field_problems(options))
    if problems:
        raise SelectionError("the choice of fields cannot be carried out:\n" + "\n".join(f"  - {p}" for p in problems))


def field_problems(options: ContentOptions) -> Iterator[str]:
    """What is wrong with the choice of fields and with redaction, a sentence each."""
    fields = options.fields
    if fields.include is not None and not fields.include:
        yield "fields.include is empty, so that nothing would be delivered: name fields, or leave it out for all"
    wrong: list[str] = []
    include = _parsed("fields.include", fields.include or (), wrong)
    exclude = _parsed("fields.exclude", fields.exclude, wrong)
    redact = _parsed("redact", options.redact, wrong)
    yield from wrong
    for where, path in chain((("fields.exclude", p) for p, _ in exclude), (("redact", p) for p, _ in redact)):
        yield from _kept(where, path)
    for path, text in include:
        if path.steps[0] in KEPT_NAMES | {RESCUED} and len(path.steps) > 1:
            yield f"fields.include names {text!r}: `{path.steps[0]}` has no fields in it"
        for outer, outer_text in exclude:
            if outer.contains(path):
                yield f"fields.include names {text!r}, which fields.exclude leaves out with {outer_text!r}"
    yield from _redaction_problems((path, text, options.redact[text]) for path, text in redact)


def _parsed(where: str, texts: Iterable[str], wrong: list[str]) -> list[tuple[FieldPath, str]]:
    """The paths, each with its spelling: two spellings may be of one path."""
    paths = []
    for text in texts:
        try:
            paths.append((parse_path(text), text))
        except ValueError as error:
            wrong.append(f"{where}: {error}")
    return paths


def _kept(where: str, path: FieldPath) -> Iterator[str]:
    name = path.steps[0]
    if name in KEPT_NAMES:
        why = "tells null from absent" if name == "absent" else "tells whose rows these are"
        yield f"{where} names {str(path)!r}, which every file has: it {why}"
    if name == RESCUED and len(path.steps) > 1:
        yield f"{where} names {str(path)!r}: only `rescued` as a whole can be left out"


def _redaction_problems(redact: Iterable[tuple[FieldPath, str, RedactionMethod]]) -> Iterator[str]:
    twins: dict[tuple[Step, ...], tuple[FieldPath, str, RedactionMethod]] = {}
    for path, text, method in redact:
        if path.steps == (RESCUED,) and method != "drop":
            yield f"redact: {text!r} can only be left out (`drop`): it holds values of any place"
        # A redaction covers every spelling of a name, so that two of one name have to agree.
        place = tuple(step if isinstance(step, Items) else caseless(step) for step in path.steps)
        other, other_text, other_method = twins.setdefault(place, (path, text, method))
        if other_method != method:
            why = "are the same field" if other == path else "are one name: redaction takes no notice of case"
            yield f"redact: {other_text!r} is to be {other_method} and {text!r} {method}, and they {why}"
