"""The commands of `screening`, a module each."""
