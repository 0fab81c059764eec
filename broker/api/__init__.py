"""The RPC door: one module per audience, behind one pipeline."""
