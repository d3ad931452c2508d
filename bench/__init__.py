"""How much Vitrine costs on top of the providers it calls, next to others that do the same work: `make bench`."""
