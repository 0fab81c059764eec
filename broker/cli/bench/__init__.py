"""Measures a broker: issue, verify, revoke, scale."""
