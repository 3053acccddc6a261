"""Files into samples: containers, formats, near-duplicates, leaks."""
