"""The nouns: frozen values that every room shares. No behaviour beyond what follows from the values themselves."""
