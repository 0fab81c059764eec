"""What goes wrong with a sandbox."""

from broker.model.errors import CannotStart


class SandboxProblem(CannotStart):
    """A sandbox cannot be made, or does not run. The text says why, and what to do."""
