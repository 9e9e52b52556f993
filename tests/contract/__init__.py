"""What must hold on every backend."""
