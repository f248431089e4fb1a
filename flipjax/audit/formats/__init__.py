"""File formats of audits: how images, names and labels are read from the files of a user."""
