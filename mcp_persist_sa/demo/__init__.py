"""The demonstration: a session outlives a cut connection, a change of node and a `kill -9`, and loses nothing."""

SERVES = "serves"
"""What a server process says once it serves."""
