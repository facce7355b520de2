"""The processes of `mendel serve`: supervisor, workers, proxy and health check, with or without a hub."""
