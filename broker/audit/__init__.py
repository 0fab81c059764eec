"""The proof: canonical entries, the Merkle tree over them, signed checkpoints, and proofs checked by anyone."""
