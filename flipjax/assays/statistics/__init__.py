"""The statistics of an assay: associations, the contrast, interim analyses, the verdict."""
