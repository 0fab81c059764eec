"""A real broker in a folder: a development CA, identities, a policy bundle, and a daemon, in one step.

For `credbroker dev`, `demo` and `bench`, for our tests, and for those of whoever writes a tool server.
"""
