"""What is it trying to do? Tools, constraints and lifetimes: parsed, bounded, and only ever narrowed."""
