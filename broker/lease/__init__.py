"""The credential's life, and the only room that knows the order of things: decide, commit, sign, release."""
