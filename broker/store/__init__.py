"""What the broker remembers: the schema, the ledger's writer, and one module of SQL per aggregate."""
