"""What the configuration says of an index's results as a dataset. A dataset card has it; nothing of it is made up."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from vv_exports.config.fields import Model
from vv_exports.domain.datasets import DatasetTexts

_ADDRESS = re.compile(r"https?://[^\s/]+\S*")


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("is blank; leave it out where there is nothing to say")
    return value.strip()


def _line(value: str) -> str:
    if "\n" in (text := _text(value)):
        raise ValueError("has several lines; write it in one")
    return text


def _address(value: str) -> str:
    if not _ADDRESS.fullmatch(value):
        raise ValueError("is no address; write it as in https://example.com/datasets/news")
    return value


_Line = Annotated[str, AfterValidator(_line)]


class DatasetConfig(Model):
    """What is said of the results of an index as a dataset."""

    title: _Line | None = Field(default=None, description="Its name for people. Default: one made of the index id.")
    description: Annotated[str, AfterValidator(_text)] | None = Field(
        default=None, description="What it is, in some sentences. Default: what it holds, counted."
    )
    license: _Line | None = Field(
        default=None,
        description="An id of https://spdx.org/licenses, such as CC-BY-4.0; the address of a licence; or its name.",
    )
    creators: tuple[_Line, ...] = Field(default=(), description="Who made it: names of organisations or people.")
    url: Annotated[str, AfterValidator(_address)] | None = Field(
        default=None, description="The address of its page on the web."
    )
    cite_as: Annotated[str, AfterValidator(_text)] | None = Field(
        default=None, description="How to cite it, best as BibTeX."
    )

    @property
    def texts(self) -> DatasetTexts:
        """The same for the parts that write cards."""
        return DatasetTexts(**dict(self))
