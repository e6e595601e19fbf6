"""What this deployment exports and where: the configuration file, its rules, and how it is found.

The models are the shape of the file. Rules that need more than one entry of it are checked after them, on all entries
that are sound, so one reading tells every problem. Nothing here opens a source or a connector.
"""

from vv_exports.config.connectors import PROVIDERS, ConnectorConfig
from vv_exports.config.content_choice import content_options, format_of_text
from vv_exports.config.editing import REMOVED, Change, edited
from vv_exports.config.file import FileEdit, edit_file
from vv_exports.config.index_attributes import (
    IndexAttributes,
    IndexScaffold,
    index_place,
    places_below,
)
from vv_exports.config.loading import (
    BEGIN,
    config_place,
    config_schema,
    dagster_project,
    indexes_in,
    is_packaged_demo,
    load_config,
    parse_config,
)
from vv_exports.config.messages import did_you_mean
from vv_exports.config.models import SOURCES, AutomationConfig, Config, IndexConfig, IndexTemplate, ScheduleConfig
from vv_exports.config.notifications import (
    AppriseConfig,
    NotificationsConfig,
    TargetConfig,
    WebhookConfig,
    notification_problems,
)
from vv_exports.config.places import missing_folders
from vv_exports.config.redaction_key import key_problems
from vv_exports.config.rules import check_apart, followed_by_templates
from vv_exports.config.table_formats import IcebergConfig, TablesConfig

__all__ = [
    "BEGIN",
    "PROVIDERS",
    "REMOVED",
    "SOURCES",
    "AppriseConfig",
    "AutomationConfig",
    "Change",
    "Config",
    "ConnectorConfig",
    "FileEdit",
    "IcebergConfig",
    "IndexAttributes",
    "IndexConfig",
    "IndexScaffold",
    "IndexTemplate",
    "NotificationsConfig",
    "ScheduleConfig",
    "TablesConfig",
    "TargetConfig",
    "WebhookConfig",
    "check_apart",
    "config_place",
    "config_schema",
    "content_options",
    "dagster_project",
    "did_you_mean",
    "edit_file",
    "edited",
    "followed_by_templates",
    "format_of_text",
    "index_place",
    "indexes_in",
    "is_packaged_demo",
    "key_problems",
    "load_config",
    "missing_folders",
    "notification_problems",
    "parse_config",
    "places_below",
]
