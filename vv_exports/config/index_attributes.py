"""What a component of a Dagster project says of an index: which one, and the words of ``indexes.<id>`` in the file.

Values may be templates of Dagster's, so the component resolves them first; then they are loaded with the file, and held
to the same rules.
"""

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ConfigDict, Field, SkipValidation, create_model

from vv_exports.config.fields import Id, Model
from vv_exports.config.messages import Location, dotted
from vv_exports.config.models import IndexConfig

_TEMPLATE = {"type": "string", "pattern": r"\{[{%]"}


class _Attributes(Model):
    """Base of the model: one whose values may be templates."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def model_json_schema(cls, *args: Any, **options: Any) -> dict[str, Any]:
        """The JSON Schema, with which `dg check yaml` checks a component's attributes and editors complete them."""
        schema = super().model_json_schema(*args, **options)
        for one in (schema, *schema.get("$defs", {}).values()):
            for name, of_value in one.get("properties", {}).items():
                one["properties"][name] = {
                    **{key: of_value[key] for key in ("description", "title", "default") if key in of_value},
                    # And no anyOf: that would be told as a whole, where one value of it is wrong.
                    "if": _TEMPLATE,
                    "then": True,
                    "else": of_value,
                }
        return schema


_FIELDS: dict[str, Any] = {
    "index_id": (Id, Field(description="The index whose prompt runs are followed.")),
    "config": (
        str | None,
        Field(
            default=None,
            description="The configuration file with source, storage and connectors; a relative path is relative to "
            "the project's folder. Default: the file that VV_EXPORTS_CONFIG names, else vv_exports.yaml in the "
            "project's folder.",
        ),
    ),
    **{
        name: (SkipValidation[field.rebuild_annotation()], Field(default=field.default, description=field.description))  # type: ignore[misc]
        for name, field in IndexConfig.model_fields.items()
    },
}
IndexAttributes = create_model("IndexAttributes", __base__=_Attributes, **_FIELDS)
"""The model of a component's attributes. A field that indexes get in the file is one of these as well."""


class IndexScaffold(Model):
    """The options with which `dg scaffold defs` makes a component."""

    index_id: str | None = Field(default=None, description="The index to follow. Default: the name of the folder.")
    automation: str = Field(default="review-team", description="The name of its first automation.")
    connector: str | None = Field(
        default=None, description="The connector that it delivers to. Default: the first one with the export scope."
    )
    subpath: str | None = Field(
        default=None, description="The collection's folder. Default: exports, the index and the automation."
    )


def index_place(index_id: str) -> str:
    """Where an index is in the file, as problems begin."""
    return dotted(("indexes", index_id))


def places_below(place: str, said: Any, at: Location = ()) -> dict[str, Location]:
    """Each place below one, as problems name it, with the way there."""
    found = {f"{place}.{dotted(at)}" if at else place: at}
    if isinstance(said, Mapping):
        parts: Collection[tuple[Any, Any]] = said.items()
    else:
        parts = list(enumerate(said)) if isinstance(said, list) else ()
    for part, value in parts:
        found |= places_below(place, value, (*at, part))
    return found
