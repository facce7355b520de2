"""The only place where settings are read and adapters meet ports."""
