"""Exports on demand: what one may ask for, the record that each has, how it is made and had.

They know nothing of automations, and nothing of Dagster: whoever launches one says under which Dagster run.
"""
