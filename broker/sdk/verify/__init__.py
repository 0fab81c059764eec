"""The verifier of tool servers: what a call must show, and the feed that keeps it up to date on revocations."""
