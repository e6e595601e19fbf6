"""What people say of an index's results as a dataset: what no prompt run tells, and nobody may make up."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DatasetTexts:
    """Each is left out of a dataset card where it is not said. ``license`` is an SPDX id, or the address of a licence;
    ``creators`` are names of people or organisations; ``cite_as`` is BibTeX, or how to cite it in words."""

    title: str | None = None
    description: str | None = None
    license: str | None = None
    creators: tuple[str, ...] = ()
    url: str | None = None
    cite_as: str | None = None
