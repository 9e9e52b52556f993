"""Nodes of an MCP server in processes of their own, on every SDK, and what stands between them and a client."""
