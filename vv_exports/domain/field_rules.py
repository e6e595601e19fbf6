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
NEEDED_OF_VIDEOS = ("video_id", "start_time", "end_time")
"""What files of one video cannot be made without."""


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
    if options.format.is_by_video:
        yield from _needed(exclude, redact, options)
        yield from _shown(include, exclude, redact, options)
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


def _needed(
    exclude: Iterable[tuple[FieldPath, str]], redact: Iterable[tuple[FieldPath, str]], options: ContentOptions
) -> Iterator[str]:
    """An id may be hashed: that tells videos apart as well."""
    name = options.format.name
    for path, text in exclude:
        if path.steps[0] in NEEDED_OF_VIDEOS:
            yield f"fields.exclude names {text!r}, without which there is no {name} file of a video"
    for path, text in redact:
        needed = next((one for one in NEEDED_OF_VIDEOS if caseless(one) == caseless(str(path.steps[0]))), None)
        if needed is not None and (needed, options.redact[text]) != ("video_id", "hash"):
            yield f"redact names {text!r}, without which there is no {name} file of a video"


def _shown(
    include: list[tuple[FieldPath, str]],
    exclude: list[tuple[FieldPath, str]],
    redact: list[tuple[FieldPath, str]],
    options: ContentOptions,
) -> Iterator[str]:
    """What is read in a file of a video is delivered."""
    out = [(path, f"fields.exclude leaves out with {text!r}") for path, text in exclude]
    out += [(path, f"redact drops with {text!r}") for path, text in redact if options.redact[text] == "drop"]
    for where, texts in (("text", options.format.texts), ("note", options.format.note)):
        try:
            paths = [(parse_path(text), text) for text in texts]
        except ValueError as error:
            yield f"format.{where}: {error}"
            continue
        for path, text in paths:
            if why := next((said for outer, said in out if outer.contains(path)), None):
                yield f"format.{where} names {text!r}, which {why}"
            elif include and not any(one.contains(path) or path.contains(one) for one, _ in include):
                yield f"format.{where} names {text!r}, which fields.include leaves out: name it there, too"


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
