"""The configuration: what the daemon is told, in one TOML file."""
