"""The HTTP door: documents for everybody, and OAuth for callers who speak no gRPC, behind one pipeline."""
