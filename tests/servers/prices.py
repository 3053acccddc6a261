"""The price table of the loopback providers' models, on every day; a recipe names it as prices.toml."""

PRICES = """
[[price]]
provider = "claude"
model = "claude-sonnet-5-5"
from = 2026-01-01
input = 2.0
output = 10.0
cache_read = 0.1
cache_write = 2.5
cache_write_1h = 4.0
[[price]]
provider = "gemini"
model = "gemini-3.8-flash"
from = 2026-01-01
input = 0.75
output = 3.75
cache_read = 0.075
cache_write = 0.75
"""
