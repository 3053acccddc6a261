"""What a person sees. Talks to the store and to nothing else."""
