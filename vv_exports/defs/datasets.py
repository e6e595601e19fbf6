"""Delivered files as one dataset, for assets downstream."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import pyarrow as pa

from vv_exports.delivery.destination import Destination
from vv_exports.delivery.entry import DeliveredFile
from vv_exports.errors import DeliveredDataError, NotFoundError

if TYPE_CHECKING:
    import pyarrow.dataset as ds

_SHOWN = 10


@dataclass(frozen=True)
class Wanted:
    """What the input of an asset asks for: by its ``metadata``, one prompt, and one folder where it has several."""

    prompt_id: str | None = None
    folder: str | None = None

    def of(self, files: Sequence[DeliveredFile], destination: Destination) -> list[DeliveredFile]:
        """These of the files. Raises NotFoundError where there are none."""
        found = [
            file for file in files if self.prompt_id in {None, file.prompt_id} and self.folder in {None, _folder(file)}
        ]
        if files and not found:
            asked = {name: value for name, value in vars(self).items() if value is not None}
            there = sorted({_Origin.of(file) for file in files})
            raise NotFoundError(
                f"{destination.uri} holds nothing of {json.dumps(asked)}, which the metadata of the input asks for. "
                f"There is: {_listed(there)}"
            )
        return found


@dataclass(frozen=True, order=True)
class _Origin:
    """Files that have the same columns."""

    prompt_id: str
    folder: str

    @classmethod
    def of(cls, file: DeliveredFile) -> "_Origin":
        return cls(file.prompt_id, _folder(file))

    def __str__(self) -> str:
        return f"prompt {self.prompt_id!r} in {self.folder}"


def dataset_of(destination: Destination, files: Sequence[DeliveredFile]) -> "ds.Dataset":
    """Parquet files as one dataset with the columns of all of them. Raises DeliveredDataError where there is none."""
    # Here, since it imports pandas where that is installed: 33 MiB in every process that loads the definitions.
    import pyarrow.dataset as ds  # noqa: PLC0415

    filesystem, base = destination.connector.arrow_filesystem()
    if any(not file.path.endswith(".parquet") for file in files):
        raise DeliveredDataError(
            f"{destination.uri} is not delivered as parquet; read its files with the tool of their format, or set "
            "`format: parquet` for the automation"
        )
    if not files:  # runs without a segment
        return ds.dataset(pa.table({}))
    format_ = ds.ParquetFileFormat()
    paths = [f"{base}/{destination.key(file.path)}" for file in files]
    schemas = [format_.inspect(path, filesystem) for path in paths]
    try:
        schema = pa.unify_schemas(schemas, promote_options="permissive")
    except pa.ArrowException as error:
        by_origin = {_Origin.of(file): pa.struct(list(schema)) for file, schema in zip(files, schemas, strict=True)}
        raise DeliveredDataError(_conflict_said(destination, by_origin, error)) from error
    return ds.dataset(paths, schema=schema, format=format_, filesystem=filesystem)


def _conflict_said(destination: Destination, types: Mapping[_Origin, pa.DataType], error: Exception) -> str:
    """Which prompts differ where, and the way out."""
    told = [
        f"{place} is " + ", ".join(f"{_named(kind)} of {_listed([each for each, _ in of_it])}" for kind, of_it in kinds)
        for place, by_origin in _conflicts("", types)
        if (kinds := _grouped(by_origin))
    ]
    one, *_ = sorted(types)
    folders = {each.folder for each in types if each.prompt_id == one.prompt_id}
    asked = {"prompt_id": one.prompt_id} | ({"folder": one.folder} if len(folders) > 1 else {})
    several = {each.prompt_id for each in types if sum(one.prompt_id == each.prompt_id for one in types) > 1}
    text = (
        " A prompt in more than one folder has changed; with `on_schema_conflict: text` its place becomes JSON text."
        if several
        else ""
    )
    more = f"; and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    return (
        f"{destination.uri} holds types that no column holds together: {'; '.join(told[:_SHOWN]) or error}{more}. Load "
        f"one prompt, as in AssetIn(key=…, metadata={json.dumps(asked)}), and another as a further input.{text}"
    )


def _conflicts(place: str, types: Mapping[_Origin, pa.DataType]) -> Iterator[tuple[str, Mapping[_Origin, pa.DataType]]]:
    """The innermost places whose types no column holds together."""
    if all(map(pa.types.is_struct, types.values())):
        names = dict.fromkeys(field.name for kind in types.values() for field in kind)
        for name in names:
            there = {origin: kind.field(name).type for origin, kind in types.items() if kind.get_field_index(name) >= 0}
            yield from _conflicts(f"{place}.{name}" if place else name, there)
    elif all(map(pa.types.is_list, types.values())):
        yield from _conflicts(f"{place}[]", {origin: kind.value_type for origin, kind in types.items()})
    else:
        try:
            pa.unify_schemas([pa.schema({"it": kind}) for kind in types.values()], promote_options="permissive")
        except pa.ArrowException:
            yield place, types


def _grouped(types: Mapping[_Origin, pa.DataType]) -> list[tuple[str, list[tuple[_Origin, str]]]]:
    told = sorted(((origin, str(kind)) for origin, kind in types.items()), key=lambda each: (each[1], each[0]))
    return [(kind, list(of_it)) for kind, of_it in groupby(told, key=lambda each: each[1])]


def _named(kind: str) -> str:
    return kind.partition("<")[0]


def _folder(file: DeliveredFile) -> str:
    return file.path.partition("/")[0]


def _listed(origins: Sequence[_Origin]) -> str:
    more = f" and {len(origins) - _SHOWN} more" if len(origins) > _SHOWN else ""
    return ", ".join(map(str, origins[:_SHOWN])) + more
