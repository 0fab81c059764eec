"""Values to protobuf and back: the one place for it, shared by the server and the SDK. It checks shape, not meaning."""
