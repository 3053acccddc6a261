"""The tiny guard, built from scratch on the pool's text."""
