"""The broker's keys by kind, and their rotation. Today they are files in a folder; a KMS would stand beside it."""
