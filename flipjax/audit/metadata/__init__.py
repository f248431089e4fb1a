"""What a user says of images beside their pixels: groups, clusters and anatomy."""
