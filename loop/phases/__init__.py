"""One module per phase, with one function `run(ctx)`, and code that several phases share."""
