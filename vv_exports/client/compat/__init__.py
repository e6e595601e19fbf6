"""VideoVector's SDK, with exports made by this deployment: a program changes its import and nothing else::

    from vv_exports.client.compat import VideoVector, NotFoundError   # was: from videovector import …
    import vv_exports.client.compat as videovector                    # was: import videovector

Every name of the SDK is here, and all but the two clients are the SDK's own. docs/sdk-swap.md says what differs.
"""

import videovector as _sdk

# The names are the SDK's to choose: one that a later version adds is here too.
from videovector import *  # noqa: F403

from vv_exports.client.compat.clients import AsyncVideoVector, VideoVector  # noqa: F401 - __all__ has them

__all__ = _sdk.__all__
