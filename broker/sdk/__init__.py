"""For other people's processes: the client for agents and orchestrators, the verifier for tool servers.

Needs grpcio, protobuf and cryptography, and nothing else.
"""
