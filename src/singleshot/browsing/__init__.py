"""A local page to leaf through a data set, its problems and a model's doubts, and to decide about labels."""

from singleshot.browsing.collection import Collection, open_collection
from singleshot.browsing.web import BrowseServer, open_server

__all__ = ["BrowseServer", "Collection", "open_collection", "open_server"]
