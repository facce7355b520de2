"""The one inference path, used by every door."""
