"""How a configuration comes about: YAML files, shipped files by name, and the choice of a user."""
