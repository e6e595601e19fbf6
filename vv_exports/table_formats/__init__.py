"""Delivered Parquet files as tables of open table formats, beside the delivery log: registered where they lie, and no
byte of them is copied. The log stays the truth; a table can be dropped and made again from it.
"""
