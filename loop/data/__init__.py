"""Import of samples: file types, formats, near-duplicates, leaks."""
