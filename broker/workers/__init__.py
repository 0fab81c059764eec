"""Workers: several processes that serve as one, and the parent that keeps them alive."""
