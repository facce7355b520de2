"""Profiles and statistics: distributions in, readings out."""
