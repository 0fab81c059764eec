"""Who are we, and whom do we believe? SVIDs, trust bundles and key sets, taken anew as their sources change."""
