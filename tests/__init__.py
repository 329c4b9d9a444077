"""The tests, in folders that mirror the package. Not part of the installed package."""
