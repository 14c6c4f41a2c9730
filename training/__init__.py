"""Training of motserve's networks. Imports motserve; motserve never imports this."""
