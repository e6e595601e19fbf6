"""A dataset card as Hugging Face has it: a README of which ``datasets.load_dataset`` reads what is which table."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vv_exports.delivery.cards.croissant import is_address, is_spdx
from vv_exports.delivery.cards.tables import CardTable
from vv_exports.domain.datasets import DatasetTexts
from vv_exports.printable import counted, one_line
from vv_exports.snapshots.columns import Column, List, Object

_SIZES = (
    *((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")),
    *((10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B")),
    *((10_000_000_000, "1B<n<10B"), (100_000_000_000, "10B<n<100B"), (1_000_000_000_000, "100B<n<1T")),
)
_DTYPES = {"double": "float64"}
_MARKDOWN = re.compile(r"([\\`*_\[\]<|#])")


def readme(
    tables: Sequence[CardTable],
    texts: DatasetTexts,
    *,
    name: str,
    description: str,
    superseded: frozenset[str],
    others: int,
    mark: str,
) -> str:
    """The card. ``others`` is how many files are in another format, ``mark`` what its last line says. Files are told by
    patterns, unless those would take ``superseded`` ones as well."""
    lines = [
        "---",
        *_metadata(tables, texts, name, superseded),
        "---",
        "",
        f"# {_text(name)}",
        "",
        *(_text(paragraph) + "\n" for paragraph in description.split("\n") if paragraph.strip()),
    ]
    if texts.creators:
        lines += [f"By {_text(', '.join(texts.creators))}.", ""]
    if texts.license is not None:
        lines += [f"Licence: {_text(texts.license)}", ""]
    if tables:
        lines += _how_to_load(tables[0])
        lines += ["## Tables", "", "| configuration | prompt | prompt runs | rows | files |", "|---|---|---|---|---|"]
        lines += [
            f"| {_code(one.name)} | {_text(one.prompt_name)} | {one.runs} | {one.rows} | {len(one.files)} |"
            for one in tables
        ]
        lines.append("")
    if others:
        lines += [f"{counted(others, 'file')} in another format than Parquet: no configuration has them.", ""]
    for table in tables:
        lines += [f"## {_code(table.name)}", "", "| column | type | what it is |", "|---|---|---|"]
        lines += [f"| {_code(one.path)} | {_code(one.type)} | {_text(one.description)} |" for one in table.described]
        lines.append("")
    if texts.cite_as is not None:
        lines += ["## Citation", "", *(f"    {line}" for line in texts.cite_as.split("\n")), ""]
    return "\n".join([*lines, f"<!-- {mark} -->", ""])


def _metadata(tables: Sequence[CardTable], texts: DatasetTexts, name: str, superseded: frozenset[str]) -> Iterator[str]:
    """Lines of YAML. Its texts are in quotes as JSON has them, which YAML reads alike."""
    yield f"pretty_name: {_quoted(name)}"
    if texts.license is not None:
        yield from _license(texts.license)
    rows = sum(table.rows for table in tables)
    yield f"size_categories: [{_quoted(next((size for most, size in _SIZES if rows < most), 'n>1T'))}]"
    if not tables:
        return
    yield "configs:"
    for number, table in enumerate(tables):
        yield f"- config_name: {_quoted(table.name)}"
        if not number:
            yield "  default: true"
        yield "  data_files:"
        yield "  - split: train"
        yield "    path:"
        yield from (f"    - {_quoted(pattern)}" for pattern in table.patterns(superseded))
    # Without them, the columns of the first file would have to be those of all, while others wait to get theirs.
    yield "dataset_info:"
    for table in tables:
        yield f"- config_name: {_quoted(table.name)}"
        yield "  features:"
        yield from (f"  - {json.dumps(one, ensure_ascii=False)}" for one in _features(table.columns))


def _features(columns: Mapping[str, Column]) -> list[dict[str, Any]]:
    """Columns as the library writes its features to YAML, of which JSON is a part."""
    return [{"name": name, **_feature(column)} for name, column in columns.items()]


def _feature(column: Column) -> dict[str, Any]:
    match column:
        case Object(fields=fields):
            return {"struct": _features(fields)}
        case List(item=item):
            (of_item,) = _feature(item).items()
            return {"list": dict([of_item]) if of_item[0] == "list" else of_item[1]}
        case _:
            return {"dtype": _DTYPES.get(str(column.arrow_type), str(column.arrow_type))}


def _license(license_: str) -> Iterator[str]:
    """The hub knows ids in small letters; of others, it wants a name, or where the text is."""
    if is_spdx(license_):
        yield f"license: {_quoted(license_.lower())}"
        return
    yield "license: other"
    yield f"license_{'link' if is_address(license_) else 'name'}: {_quoted(license_)}"


def _how_to_load(first: CardTable) -> list[str]:
    return [
        "```python",
        "from datasets import load_dataset",
        "",
        f'rows = load_dataset("path/of/this/folder", {_quoted(first.name)}, split="train")',
        "```",
        "",
    ]


def _quoted(text: str) -> str:
    return json.dumps(one_line(text), ensure_ascii=False)


def _text(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", one_line(text))


def _code(text: str) -> str:
    shown = one_line(text).replace("|", "\\|")
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`"
