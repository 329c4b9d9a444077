"""One module per game: what its frames show, and how one plays it with and without memory."""
