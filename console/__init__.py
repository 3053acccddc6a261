"""What commands print and screens draw: tables, progress lines, the words for them."""
