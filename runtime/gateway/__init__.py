"""The HTTP surface: who may come in, what a request may look like, and the routes of DESIGN section 7.

It knows a `Client` for each caller and nothing of coordinators, links or stores, so it runs over any of them. Only
`deployment` knows Ray Serve, and is not imported here.
"""

from .app import create_app
from .settings import Credential, Settings

__all__ = ["Credential", "Settings", "create_app"]
