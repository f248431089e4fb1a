"""The numbers of an audit, made of the counts of its images."""
