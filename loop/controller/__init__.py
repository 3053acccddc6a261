"""The controller of a workspace: its lock, the loop over rounds and phases, and the worker that runs them."""
