"""The environments for other libraries, one module each; a module needs its library."""
