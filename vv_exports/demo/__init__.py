"""An archive to try the package on: ``write_demo`` writes it, with a configuration, into a folder."""

from vv_exports.demo.archive import DemoSummary, write_demo

__all__ = ["DemoSummary", "write_demo"]
