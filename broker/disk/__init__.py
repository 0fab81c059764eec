"""Files that hold what must not be lost, and what nobody else may read. Needs the standard library alone."""
