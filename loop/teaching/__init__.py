"""Questions to teachers: what is sent, when, at which price, and how the ledger stays true."""
