"""What an operator runs: moving data between stores and files."""
