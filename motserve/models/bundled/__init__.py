"""Small weights shipped with the package, for machines without better ones."""
