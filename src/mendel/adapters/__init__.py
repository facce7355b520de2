"""One folder for each vendor; each folder implements ports and translates the vendor's errors into Mendel's errors."""
