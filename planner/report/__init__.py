"""What people see, as text and HTML: plain data in, text out."""
