"""Image layouts and archives on disk, and the JSON documents in them."""
