"""What is counted in each image of an audit."""
