"""Guards of other teams: each is asked in the prompt of its training, and read in the form that it was taught."""
