"""Images unpacked on this machine: inspected, and tried in a sandbox."""
