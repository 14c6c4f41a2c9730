"""Small weights that come with the package, for machines where nothing better can be had."""
