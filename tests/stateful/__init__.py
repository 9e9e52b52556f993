"""A state machine over the whole store, which compares every answer with a plain model in memory."""
