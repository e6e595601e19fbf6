"""``python -m vv_exports`` is ``vv-exports``."""

from vv_exports.cli import main

if __name__ == "__main__":
    main()
