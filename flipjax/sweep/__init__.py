"""The sweep command, and all that touches a run folder."""
