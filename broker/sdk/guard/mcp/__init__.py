"""Guards for MCP servers: one in front of any (`http`), and some inside those made with `mcp` or `fastmcp`.

Each module is imported by itself, as not everybody has both packages: `http` and `stdio` need neither.
"""
