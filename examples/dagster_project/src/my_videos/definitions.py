from pathlib import Path

import dagster as dg


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions.merge(
        dg.load_from_defs_folder(path_within_project=Path(__file__).parent),
        # A run of one asset needs no process for its step: it starts seconds earlier.
        dg.Definitions(executor=dg.in_process_executor),
    )
