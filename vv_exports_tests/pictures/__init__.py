"""Tests of ``vv_exports.pictures``."""
