"""Questions to teachers: what is sent, when, at what price, and how the ledger stays correct."""
