"""What is settled for a whole process, where it is the pipeline's own: a command's, and one in which Dagster loads the
definitions. A program that uses the package decides for itself.
"""

import gc
import os
import sys

_NEW_OBJECTS = 20_000
"""So many before Python looks for cycles among them. Else it looks several times at all that is imported, a quarter of
a million objects that stay: a seventh of the time that a command takes to start."""
_ARROW_MEMORY = "ARROW_DEFAULT_MEMORY_POOL"


def settle() -> None:
    """Arrow takes memory from the system's allocator: with its own one an export takes 50 MB more, and a twentieth more
    CPU. Processes that this one starts do the same. Arrow's environment variable decides where it is set."""
    gc.set_threshold(_NEW_OBJECTS)
    if _ARROW_MEMORY in os.environ:
        return
    os.environ[_ARROW_MEMORY] = "system"
    if "pyarrow" in sys.modules:  # it has looked at the variable
        import pyarrow as pa  # noqa: PLC0415

        pa.set_memory_pool(pa.system_memory_pool())
