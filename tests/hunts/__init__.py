"""Hunts: processes that are killed, replies that are lost, servers that hang, callers that give up.

The CI runs a small number of rounds. The environment variable MCP_PERSIST_SA_TEST_HUNT multiplies them; with 10, a
writer is killed 100 times on each dialect:

    MCP_PERSIST_SA_TEST_HUNT=10 python -m pytest tests/hunts -rP

What happens at random comes from a seed that each test prints (`-rP` shows it where the test passes). The environment
variable MCP_PERSIST_SA_TEST_HUNT_SEED gives the seed to try again with.
"""
