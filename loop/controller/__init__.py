"""The controller of a workspace: the night, its processes, their lock, and when it is enough."""
