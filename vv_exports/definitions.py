"""The composition root: configuration in, Dagster definitions out. Loaded by Dagster, see ``workspace.yaml``."""

import dagster as dg

from vv_exports.own_process import settle


@dg.definitions
def defs() -> dg.Definitions:
    """Definitions of the configuration that ``load`` finds. The network is used where the storage is remote and the
    configuration has templates of indexes: one document says which indexes there are."""
    settle()  # before the rest is imported: that is quicker then, and Arrow looks at its environment only once
    from vv_exports.defs.build import build_definitions  # noqa: PLC0415
    from vv_exports.defs.history import write_in_batches  # noqa: PLC0415
    from vv_exports.index_list import load  # noqa: PLC0415
    from vv_exports.pipeline import Pipeline  # noqa: PLC0415

    write_in_batches()  # in the processes of Dagster runs, too
    return build_definitions(Pipeline.from_config(load()))
