"""The client of agents and orchestrators: tasks and credentials as blocks, and credentials that are kept good."""
