"""Names of the files beside ``mlserver.yaml`` from which an image is built."""

LOCK_FILE = "mlserver.lock"
WHEELS_DIRECTORY = "mlserver.wheels"
"""The directory of wheels that no index has, committed beside the lock; the builder searches it first."""
