"""Other names of keys: those of earlier versions, and those of other libraries."""
