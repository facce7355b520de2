"""One folder per vendor; each implements ports and translates that vendor's errors in one place."""
