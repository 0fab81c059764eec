"""The HTTP door: the key set, and OAuth for callers who speak no gRPC."""
