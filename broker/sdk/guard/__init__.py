"""Guards in front of tool servers: each call is checked by a verifier before the server handles it.

Those for gRPC (`grpc`) and for any ASGI application (`http`) need no framework; `mcp` is a room of its own.
"""
