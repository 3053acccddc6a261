"""Teachers: adapters of providers, recorded and replayed answers, the policy reasoner."""
