"""The form the agent carries: claims, strict JOSE, and the keys that sign."""
