"""What users and the command line call: the Python API over HTTP or in process."""
