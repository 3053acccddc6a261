"""The tables of a recipe that make a night as short as its phases allow, and let every guard through the gate."""

SHORTEST = """
[classify]
share = 0.1
least = 1
most = 1
[members]
count = 0
[train]
epochs = 1
least_steps = 1
[dpo]
enabled = false
[review]
rule = "nothing"
[gate]
max_over_refusal_rise = 1.0
max_unparsable = 1.0
margin = 1.0
"""
