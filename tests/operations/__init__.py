"""What whoever operates a store runs."""
