"""How the members of a run are followed: by a function of the user, and by experiment trackers."""
