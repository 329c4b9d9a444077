"""The games, one flat module each; ``popgym_arcade.registry`` lists them."""
