"""What is said of Redis alone."""
