"""The content that was chosen for an export on demand, by the rules of the configuration and with its messages."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from vv_exports.config.content import ContentConfig
from vv_exports.config.document import Document
from vv_exports.config.problems import problem
from vv_exports.domain.content_options import ContentOptions
from vv_exports.domain.field_rules import field_problems
from vv_exports.errors import ConfigurationError, RequestError


def content_options(chosen: Mapping[str, Any]) -> ContentOptions:
    """The options of values as the configuration would hold them; what is not chosen is the default. Raises
    RequestError with every problem."""
    try:
        content = ContentConfig.model_validate(_as_in_a_file(chosen)).content
    except ValidationError as error:
        problems = [problem(one, ("content",)) for one in error.errors(include_url=False)]
    else:
        problems = list(field_problems(content))
        if not problems:
            return content
    if len(problems) == 1:
        raise RequestError(problems[0])
    raise RequestError("\n".join([f"{len(problems)} problems:", *(f"  - {one}" for one in problems)]))


def format_of_text(text: str) -> str | dict[str, Any]:
    """A format as the configuration would hold it: a name, or a mapping with its options. Raises RequestError."""
    if not text.lstrip().startswith("{"):
        return text
    document = Document()
    data = document.read(text, f"format {text}")
    if document.problems:
        raise ConfigurationError(f"format {text}", document.problems)
    return data


def _as_in_a_file(value: Any) -> Any:
    """Mappings of any kind as the rules know them: as those that a file holds."""
    return {key: _as_in_a_file(item) for key, item in value.items()} if isinstance(value, Mapping) else value
