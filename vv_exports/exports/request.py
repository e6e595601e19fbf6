"""What an export on demand may ask for. Everything that can be wrong is found before anything is written."""

import os

from vv_exports.config import Config, check_apart, content_options
from vv_exports.connectors.base import Connector
from vv_exports.connectors.configured import Connectors
from vv_exports.delivery.destination import Destination
from vv_exports.delivery.ownership import check_unowned
from vv_exports.domain.content_options import ContentOptions
from vv_exports.domain.destinations import check_subpath, overlaps
from vv_exports.domain.exports import ExportRequest
from vv_exports.domain.redaction_key import redaction_key
from vv_exports.errors import DestinationError, RequestError


def check_content(config: Config, content: ContentOptions) -> None:
    """What cannot be delivered, or not once. Raises RequestError."""
    content_options(content.chosen)  # the caller may have made it by hand
    if content.on_schema_conflict == "hold":
        raise RequestError(
            "on_schema_conflict: 'hold' lets a run wait until its collection can take it, and an export on demand is "
            "made at once: choose new_version or text"
        )
    if content.hashes:
        redaction_key(os.environ, config.redaction_key_env)


def check_beside(request: ExportRequest) -> None:
    """What cannot be beside an export's tables. Raises RequestError."""
    if request.dataset_card and request.format != "parquet":
        raise RequestError(
            f"a dataset card tells the columns of Parquet files, and format is {request.format!r}: choose parquet, or "
            "leave dataset_card out"
        )


def check_destination(config: Config, connectors: Connectors, request: ExportRequest) -> None:
    """Where an export may not go. Raises RequestError."""
    if request.destination_connector_id is None:
        if request.destination_subpath is not None:
            raise DestinationError(
                f"destination_subpath {request.destination_subpath!r} was given without a connector; name a "
                "destination connector, or leave the subpath out for a download"
            )
        return
    connector = connectors.for_export(request.destination_connector_id)
    subpath = parent_folder(connector, request)
    if request.destination_subpath is not None:
        _check_free_of_automations(config, connectors, connector, subpath)
    check_apart(config, request.destination_connector_id, subpath)
    check_unowned(Destination(connector, subpath))


def parent_folder(connector: Connector, request: ExportRequest) -> str:
    """The folder below the connector's boundary in which exports of a request get folders of their own."""
    if request.destination_subpath is None:
        return ""
    return check_subpath(request.destination_subpath, boundary=connector.uri(""))


def _check_free_of_automations(config: Config, connectors: Connectors, connector: Connector, subpath: str) -> None:
    wanted = f"{connector.address}/{subpath}"
    for index_id, index in config.indexes.items():
        for name, automation in index.automations.items():
            taken = f"{connectors[automation.destination_connector_id].address}/{automation.subpath}"
            if overlaps(taken, wanted) and taken.count("/") <= wanted.count("/"):
                raise DestinationError(
                    f"destination_subpath {subpath!r} of connector {connector.connector_id!r} belongs to the "
                    f"automation {name!r} of index {index_id!r}, whose readers would count rows twice; choose another"
                )
