"""A canary for what Python keeps private: look at ``threading`` where another version fails here."""

import subprocess
import sys

EARLY = """
import atexit
from concurrent.futures import ThreadPoolExecutor
from vv_exports.sources.interpreter_exit import before_executors_end

executor = ThreadPoolExecutor(1)
before_executors_end(lambda: print(executor.submit(lambda: "takes work").result()))
atexit.register(lambda: print("atexit"))
"""


def test_it_is_done_while_executors_take_work():
    said = subprocess.run([sys.executable, "-c", EARLY], capture_output=True, text=True, check=False)
    assert (said.stdout, said.stderr) == ("takes work\natexit\n", "")
