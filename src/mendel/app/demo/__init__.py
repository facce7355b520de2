"""`mendel demo`: train, serve, monitor, retrain and roll back a model with real processes and public interfaces."""
