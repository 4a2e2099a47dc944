"""How fast the services are beside what they could be at best. `make bench` runs it; only 127.0.0.1 is used."""
