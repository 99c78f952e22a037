"""A client of `singleshot serve`, without dependencies of its own:

from singleshot.client import Client

detections = Client("http://127.0.0.1:8000").detect("street.jpg")
"""

from singleshot.client.answers import ServedModel
from singleshot.client.calls import Client

__all__ = ["Client", "ServedModel"]
