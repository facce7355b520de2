"""The command line: thin commands over the client, each importing what it needs when it runs."""
