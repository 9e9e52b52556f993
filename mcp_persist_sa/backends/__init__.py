"""Where the data is kept."""
