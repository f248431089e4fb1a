"""A user's statements about images beside their pixels: groups, clusters and anatomy."""
