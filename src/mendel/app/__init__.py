"""The application: read settings, connect ports with adapters, and run the commands, hub and servers."""
