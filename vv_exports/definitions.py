"""The composition root: configuration in, Dagster definitions out. Loaded by Dagster, see ``workspace.yaml``."""

from vv_exports.own_process import settle

settle()  # before the rest is imported, which is what it makes quicker

import dagster as dg  # noqa: E402

from vv_exports.defs.build import build_definitions  # noqa: E402
from vv_exports.defs.history import write_in_batches  # noqa: E402
from vv_exports.index_list import load  # noqa: E402
from vv_exports.pipeline import Pipeline  # noqa: E402


@dg.definitions
def defs() -> dg.Definitions:
    """Definitions of the configuration that ``load`` finds. The network is used where the storage is remote and the
    configuration has templates of indexes: one document says which indexes there are."""
    write_in_batches()  # in the processes of Dagster runs, too
    return build_definitions(Pipeline.from_config(load()))
