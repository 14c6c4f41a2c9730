"""`motserve serve`, and the service and Ray that commands start for themselves."""
