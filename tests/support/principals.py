"""The principals that tests act as."""

import os

ME = f"local:{os.getuid()}"
"""The user of the data directory, who runs the tests."""
