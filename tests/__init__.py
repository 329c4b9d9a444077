"""The tests, in folders that mirror the package, and what they share. Not part of the installed
package."""
