"""What flows inside infopt: frozen dataclasses of numbers and names, free of any heavy library."""
