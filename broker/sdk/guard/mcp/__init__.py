"""Guards for MCP servers: a gate in front of any, and pieces for those made with `mcp` or `fastmcp`.

Each module is imported by itself, as not everybody has both packages: `http` and `stdio` need neither.
"""
