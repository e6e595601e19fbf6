"""What may be chosen of the content of an export: options with the names of the configuration."""

from typing import Any

import click

from vv_exports.errors import RequestError

CONTENT = (
    click.option(
        "--format",
        "format_name",
        metavar="F",
        default="parquet",
        show_default=True,
        help="parquet, jsonl, csv, json, webvtt or markers; with options as `format` has them in the configuration: "
        "'{name: csv, delimiter: \";\", excel: true}', '{name: webvtt, text: [metadata.title]}'.",
    ),
    click.option(
        "--tables",
        multiple=True,
        metavar="T,…",
        help="Only these of segments, videos and failures; repeat for more (`tables`).",
    ),
    click.option(
        "--include",
        multiple=True,
        metavar="PATH",
        help="Only this field, such as metadata.people[].name; repeat for more (`fields: {include: […]}`).",
    ),
    click.option(
        "--exclude",
        multiple=True,
        metavar="PATH",
        help="Not this field; repeat for more (`fields: {exclude: […]}`).",
    ),
    click.option(
        "--redact",
        multiple=True,
        metavar="PATH=METHOD",
        help="drop, hash or mask the values of this field; repeat for more (`redact`).",
    ),
    click.option(
        "--compression", metavar="C", help="none, gzip, snappy or zstd, as far as the format has it (`compression`)."
    ),
    click.option(
        "--target-file-bytes",
        type=int,
        metavar="N",
        help="The size at which a table goes on in another file (`target_file_bytes`).",
    ),
    click.option(
        "--on-schema-conflict",
        metavar="C",
        help="new_version or text: what to do with a run whose prompt has another type in a place "
        "(`on_schema_conflict`).",
    ),
    click.option(
        "--contract",
        metavar="C",
        help="warn, quarantine or block: what to do with rows that break their prompt's JSON Schema (`contract`).",
    ),
)
AUTOMATION_CONTENT = (
    click.option(
        "--format",
        "format_name",
        metavar="F",
        help="parquet, jsonl, csv, json, webvtt or markers; or with options: '{name: csv, delimiter: \";\"}'.",
    ),
    *CONTENT[1:],
)
"""The same for an automation, where what is not named stays as it is."""


def content_of(
    *,
    format_name: str,
    tables: tuple[str, ...],
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    redact: tuple[str, ...],
    **as_they_are: Any,
) -> Any:
    """The content that the options ask for. Raises RequestError."""
    from vv_exports.config import content_options

    return content_options(
        chosen_fields(
            format_name=format_name, tables=tables, include=include, exclude=exclude, redact=redact, **as_they_are
        )
    )


def chosen_fields(
    *,
    format_name: str | None,
    tables: tuple[str, ...],
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    redact: tuple[str, ...],
    **as_they_are: Any,
) -> dict[str, Any]:
    """The fields of the configuration that options give a value. Raises RequestError."""
    from vv_exports.config import format_of_text

    chosen = {
        "format": None if format_name is None else format_of_text(format_name),
        "tables": [name.strip() for some in tables for name in some.split(",") if name.strip()] if tables else None,
        "fields": {name: list(paths) for name, paths in (("include", include), ("exclude", exclude)) if paths} or None,
        "redact": _redact(redact) or None,
        **as_they_are,
    }
    return {name: value for name, value in chosen.items() if value is not None}


def _redact(options: tuple[str, ...]) -> dict[str, str]:
    methods: dict[str, str] = {}
    for option in options:
        path, separator, method = option.rpartition("=")
        if not separator:
            raise RequestError(
                f"--redact {option!r} says no method; write {option}=drop, {option}=hash or {option}=mask"
            )
        if path in methods:
            raise RequestError(f"--redact names {path!r} twice; keep one")
        methods[path] = method
    return methods
