"""The ZMQ server: one proxy process accepts callers and passes messages to a ZMQ server in each worker."""
