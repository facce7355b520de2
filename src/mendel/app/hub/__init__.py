"""The hub process: its start, background jobs, health and profiles of logged rows."""
