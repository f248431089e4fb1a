"""Images and masks decoded from files."""
