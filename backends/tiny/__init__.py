"""The tiny guard, built from nothing on the pool's text."""
