"""What is checked of an index and its collections: one module for each check, used by Dagster's asset checks and by
``vv-exports checks`` alike.

Each is a pure function of what is known already: records of snapshots, the delivery log, the last verification. None
reads the data once more.
"""
