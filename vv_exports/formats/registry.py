"""The file formats that exist. A new one is a module beside this one and a line here."""

from collections.abc import Callable
from itertools import starmap

from vv_exports.domain.content_options import COMPRESSIONS, ContentOptions, FormatName, FormatOptions
from vv_exports.errors import NotFoundError, RequestError
from vv_exports.formats.base import Format
from vv_exports.formats.csv import Csv
from vv_exports.formats.edl import Edl
from vv_exports.formats.fcpxml import FcpXml
from vv_exports.formats.json import JsonDocument
from vv_exports.formats.jsonl import JsonLines
from vv_exports.formats.opentime import opentimelineio
from vv_exports.formats.otio import Otio
from vv_exports.formats.parquet import Parquet
from vv_exports.formats.videos import Video
from vv_exports.formats.webvtt import WebVtt

_MAKERS: dict[FormatName, Callable[[ContentOptions], Format]] = {
    "parquet": lambda options: Parquet(options.compressed_with, file_bytes=options.target_file_bytes),
    "jsonl": lambda options: JsonLines(options.compressed_with),
    "csv": lambda options: Csv(
        options.compressed_with, options.format.delimiter, options.format.excel, options.format.formulas
    ),
    "json": lambda options: JsonDocument(options.compressed_with),
    "webvtt": lambda options: WebVtt(options.format.kind),
    "markers": lambda _: Otio(),
}


def formats_of_video(options: ContentOptions, video: Video) -> tuple[Format, ...]:
    """The files that are made of a video. The first is what ``format_of`` reads back."""
    if options.format.name == "webvtt":
        return (WebVtt(options.format.kind, video),)
    return (Otio(video), Edl(video), FcpXml(video))


def check_installed(options: ContentOptions) -> None:
    """Raise RequestError where a format needs what is not installed."""
    if options.format.name == "markers":
        opentimelineio()


def format_of(options: ContentOptions) -> Format:
    """The format that is chosen; of one that makes files of videos, what reads them back. Raises RequestError where
    there is none of that name, or it is not compressed so."""
    name = options.format.name
    if name not in _MAKERS:
        raise NotFoundError(f"there is no format {name!r}: choose one of {', '.join(_MAKERS)}")
    if options.compressed_with not in COMPRESSIONS[name]:
        raise RequestError(
            f"compression {options.compression!r} is none that {name} files have: "
            f"choose one of {', '.join(COMPRESSIONS[name])}"
        )
    return _MAKERS[name](options)


def _every_format() -> list[Format]:
    chosen = ((name, compression) for name, those in COMPRESSIONS.items() for compression in those)
    return list(starmap(lambda name, how: format_of(ContentOptions(FormatOptions(name), compression=how)), chosen))


SUFFIXES = frozenset(one.suffix for one in (*_every_format(), Edl(), FcpXml()))
"""Ends of all the names that files of any format have."""

FOR_EDITORS_ALONE = frozenset({Edl.suffix, FcpXml.suffix})
"""Ends of the names of files that hold no results: of the same rows there is another file."""
