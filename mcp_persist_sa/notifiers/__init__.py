"""What wakes whoever waits for new events."""
