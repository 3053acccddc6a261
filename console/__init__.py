"""Tables, progress lines and wording that both commands and screens show."""
